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

/// Checks a large file that has been checked before: its sum is computed anew only where size or time of
/// change differ from those noted beside it then.
///
/// # Errors
/// As [`check`].
pub fn check_once(path: &Path, sha256: &str) -> anyhow::Result<()> {
    let seen = || -> anyhow::Result<String> {
        let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let changed = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(format!("{sha256} {} {}", meta.len(), changed.as_nanos()))
    };
    let note = path.with_extension("checked");
    let now = seen()?;
    if fs::read_to_string(&note).is_ok_and(|noted| noted == now) {
        return Ok(());
    }
    check(path, sha256)?;
    // A cache that cannot be written is checked at each start.
    let _ = fs::write(&note, now);
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

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn member(name: &str, body: &[u8]) -> Vec<u8> {
        let mut block = [0u8; TAR_BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
        let mut out = block.to_vec();
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(TAR_BLOCK), 0);
        out
    }

    fn tgz(folder: &Path, tar: &[u8]) -> std::path::PathBuf {
        let path = folder.join("a.tgz");
        let mut out = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        out.write_all(tar).unwrap();
        out.finish().unwrap();
        path
    }

    #[test]
    fn one_member_of_many_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = member("package/a", &[1; 700]);
        tar.extend(member("package/b", b"body"));
        tar.extend([0; 2 * TAR_BLOCK]);
        let tgz = tgz(folder.path(), &tar);
        let out = folder.path().join("out");
        member_of_tgz(&tgz, "package/b", &out).unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"body");
        assert!(member_of_tgz(&tgz, "package/c", &out).unwrap_err().to_string().contains("package/c"));
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let tar = member("package/b", &[7; 2000]);
        let tgz = tgz(folder.path(), &tar[..1000]);
        assert!(member_of_tgz(&tgz, "package/b", &folder.path().join("out")).is_err());
    }

    #[test]
    fn a_file_that_changed_is_checked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, b"good").unwrap();
        let sum = hex::encode(Sha256::digest(b"good"));
        check_once(&path, &sum).unwrap();
        check_once(&path, &sum).unwrap();
        fs::write(&path, b"evil!").unwrap();
        assert!(check_once(&path, &sum).unwrap_err().to_string().contains("SHA-256"));
    }
}
