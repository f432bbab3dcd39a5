# Stillwell in a small image. Kafka and ClickHouse are other containers: see compose/compose.yaml.

FROM rust:1.95-bookworm AS build
# librdkafka, OpenSSL and zstd are built in, from source; this image has the C compiler, make and perl for that.
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package stillwell \
 && cp target/release/stillwell /usr/local/bin/stillwell \
 && strip /usr/local/bin/stillwell

FROM debian:bookworm-slim
# Certificates of brokers and stores that speak TLS.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/stillwell stillwell \
 && install --directory --owner=stillwell --group=stillwell --mode=0750 /var/lib/stillwell
COPY --from=build /usr/local/bin/stillwell /usr/local/bin/stillwell
COPY LICENSE /usr/share/doc/stillwell/LICENSE
ENV HOME=/var/lib/stillwell
USER stillwell
WORKDIR /var/lib/stillwell
VOLUME /var/lib/stillwell
EXPOSE 8080 5433
# Fails until all is ready, and where the query side does not answer.
HEALTHCHECK --interval=5s --timeout=10s --start-period=60s --retries=6 \
    CMD ["stillwell", "status", "--data", "/var/lib/stillwell"]
ENTRYPOINT ["stillwell"]
CMD ["up", "--data", "/var/lib/stillwell", "--http", "0.0.0.0:8080", "--pg", "0.0.0.0:5433"]
