//! Where load goes: a topic of a Kafka that is named, or of a running stack.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::parse::property;

/// The topic and its Kafka.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where to")]
pub struct TargetArgs {
    /// Topic to write to; it must exist (`stillwell up` makes those of its config)
    #[arg(long, default_value = "readings")]
    pub topic: String,
    /// Kafka brokers; without it, the Kafka of the stack that runs on --data
    #[arg(long, env = "STILLWELL_KAFKA", value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Data folder of a running `stillwell up`
    #[arg(long, default_value = "stillwell-data", value_name = "DIR")]
    pub data: PathBuf,
    /// librdkafka property, such as security.protocol=SSL; may be repeated
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
}

impl Default for TargetArgs {
    fn default() -> Self {
        Self {
            topic: "readings".to_owned(),
            kafka: None,
            data: PathBuf::from("stillwell-data"),
            properties: Vec::new(),
        }
    }
}

impl TargetArgs {
    /// The brokers to connect to.
    ///
    /// # Errors
    /// If none is named and no stack runs on the data folder.
    pub fn brokers(&self) -> anyhow::Result<String> {
        let named = self.kafka.clone().filter(|brokers| !brokers.is_empty());
        named.map_or_else(|| running_kafka(&self.data), Ok)
    }
}

fn running_kafka(data: &Path) -> anyhow::Result<String> {
    let path = data.join("endpoints.json");
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "no running stack: cannot read {}; start `stillwell up --data {}`, or name brokers with --kafka",
            path.display(),
            data.display()
        )
    })?;
    let endpoints: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let Some(kafka) = endpoints["kafka"].as_str() else {
        bail!("{} names no kafka; name brokers with --kafka", path.display());
    };
    Ok(kafka.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_stack_says_where_its_kafka_is() {
        let folder = tempfile::tempdir().unwrap();
        let target = TargetArgs { data: folder.path().to_owned(), ..TargetArgs::default() };
        let error = format!("{:#}", target.brokers().unwrap_err());
        assert!(error.contains("stillwell up --data"), "{error}");
        std::fs::write(folder.path().join("endpoints.json"), r#"{"kafka":"127.0.0.1:29092"}"#).unwrap();
        assert_eq!(target.brokers().unwrap(), "127.0.0.1:29092");
        let named = TargetArgs { kafka: Some("broker:9092".to_owned()), ..target };
        assert_eq!(named.brokers().unwrap(), "broker:9092");
    }
}
