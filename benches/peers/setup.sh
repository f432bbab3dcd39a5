#!/usr/bin/env bash
# Makes the Python that the peer script runs on: benches/peers/.venv.
set -euo pipefail
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet 'confluent-kafka==2.*' 'pyarrow>=20'
.venv/bin/python -c 'import confluent_kafka, pyarrow; print("confluent-kafka", confluent_kafka.__version__, "pyarrow", pyarrow.__version__)'
