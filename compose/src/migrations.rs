//! `stillwell migrations`: the statements that make ClickHouse's tables, as they would be run.

use clap::Args;

use crate::config::Config;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stillwell migrations                                 for one server, as the stages run them
  stillwell migrations --cluster plant > tables.sql    for the shards and replicas of a cluster";

/// For which servers.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrationsArgs {
    /// The cluster, as the servers' remote_servers name it; without it, that of the config
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

/// Prints them in order, for a database that is not there yet.
///
/// # Errors
/// Where the config is not right.
#[allow(clippy::print_stdout)]
pub(crate) fn run(args: &MigrationsArgs, mut config: Config) -> anyhow::Result<u8> {
    if let Some(cluster) = &args.cluster {
        config.clickhouse.cluster.clone_from(cluster);
    }
    for statement in stillwell_aggregate::script(&config.clickhouse.database, &config.layout()?)? {
        println!("{statement};\n");
    }
    Ok(0)
}
