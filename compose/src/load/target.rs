//! Where load goes: a topic of a Kafka that is named, or of a running stack.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use stillwell_source::settings::is_consumers;

use super::parse::property;
use crate::config::Config;
use crate::endpoints::Endpoints;

/// The topic and its Kafka.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where to")]
pub struct TargetArgs {
    /// Topic to write to; it must exist (`stillwell up` makes those of its config)
    #[arg(long, default_value = "readings")]
    pub topic: String,
    /// Kafka brokers; without it, those of the config, or the Kafka of the stack that runs on --data
    #[arg(long, value_name = "HOST:PORT")]
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
    /// Takes what the command line leaves open from the config's `[kafka]`.
    ///
    /// # Errors
    /// If a property of the config is not text.
    pub fn complete(&mut self, config: &Config) -> anyhow::Result<()> {
        if self.kafka.as_ref().is_none_or(String::is_empty) && !config.kafka.brokers.is_empty() {
            self.kafka = Some(config.kafka.brokers.clone());
        }
        let of_config = config.kafka.flat_properties()?.into_iter().filter(|(key, _)| !is_consumers(key));
        // Of two values for one property the later counts: the command line's.
        self.properties = of_config.chain(std::mem::take(&mut self.properties)).collect();
        Ok(())
    }

    /// The brokers to connect to.
    ///
    /// # Errors
    /// If none is named and no stack runs on the data folder.
    pub fn brokers(&self) -> anyhow::Result<String> {
        match self.kafka.clone().filter(|brokers| !brokers.is_empty()) {
            Some(brokers) => Ok(brokers),
            None => Ok(Endpoints::read(&self.data)
                .context("no brokers named with --kafka or in the config")?
                .kafka),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_config_and_that_before_a_running_stack() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = TargetArgs { data: folder.path().to_owned(), ..TargetArgs::default() };
        let error = format!("{:#}", target.brokers().unwrap_err());
        assert!(error.contains("stillwell up --data") && error.contains("--kafka"), "{error}");
        let text =
            "[kafka]\nbrokers='config:9092'\nsecurity.protocol='SSL'\ngroup.instance.id='a'\nlinger.ms=7";
        let config: Config = toml::from_str(text).unwrap();
        target.properties = vec![("linger.ms".to_owned(), "9".to_owned())];
        target.complete(&config).unwrap();
        assert_eq!(target.brokers().unwrap(), "config:9092");
        let keys: Vec<_> = target.properties.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(keys, ["linger.ms=7", "security.protocol=SSL", "linger.ms=9"]);
        let mut named = TargetArgs { kafka: Some("flag:9092".to_owned()), ..TargetArgs::default() };
        named.complete(&config).unwrap();
        assert_eq!(named.brokers().unwrap(), "flag:9092");
    }
}
