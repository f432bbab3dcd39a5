//! Checks and unpacks what was fetched.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

/// Size of a block of a tar archive (POSIX.1-1988, ustar).
const TAR_BLOCK: usize = 512;

/// Checks a file against its SHA-256 sum.
///
/// # Errors
/// If it cannot be read, or is not what was committed with this version.
pub fn check(path: &Path, sha256: &str) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            break;
        }
        sha.update(&buffer[..n]);
    }
    let found = hex::encode(sha.finalize());
    if found != sha256 {
        bail!(
            "{} has SHA-256 {found}, expected {sha256}; remove it and fetch again, and ask who changed it",
            path.display()
        );
    }
    Ok(())
}

/// Unpacks one member of a gzipped tar archive to `out`, synced.
///
/// # Errors
/// If the archive is broken or holds no such member.
pub fn member_of_tgz(tgz: &Path, member: &str, out: &Path) -> anyhow::Result<()> {
    let file = File::open(tgz).with_context(|| format!("cannot open {}", tgz.display()))?;
    let mut tar = GzDecoder::new(BufReader::with_capacity(1 << 20, file));
    let mut header = [0; TAR_BLOCK];
    loop {
        tar.read_exact(&mut header).with_context(|| format!("{} ends early", tgz.display()))?;
        let Some((name, size)) = parse_header(&header) else {
            bail!("{} holds no {member}", tgz.display());
        };
        let padded = size.next_multiple_of(TAR_BLOCK as u64);
        if name == member {
            let mut to = File::create(out).with_context(|| format!("cannot create {}", out.display()))?;
            let copied = std::io::copy(&mut (&mut tar).take(size), &mut to)
                .with_context(|| format!("cannot write {}; is the disk full?", out.display()))?;
            if copied != size {
                bail!("{} ends early", tgz.display());
            }
            to.flush()?;
            to.sync_all()?;
            return Ok(());
        }
        std::io::copy(&mut (&mut tar).take(padded), &mut std::io::sink())?;
    }
}

/// Name and size of a member; none at the end of the archive.
fn parse_header(header: &[u8; TAR_BLOCK]) -> Option<(String, u64)> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
    };
    let name = text(&header[..100]);
    let size = u64::from_str_radix(&text(&header[124..136]), 8).ok()?;
    (!name.is_empty()).then_some((name, size))
}

/// Makes a file's program executable.
///
/// # Errors
/// If its mode cannot be changed.
pub fn make_executable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}
