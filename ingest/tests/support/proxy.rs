//! A way to a server that can be made bad: silent, cut, or one that loses answers. For servers that answer one
//! request a connection.
#![allow(dead_code, reason = "each test file uses its share")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASS: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;
const END: u8 = 3;

/// Between a client and a server, both on this machine; ended with the test.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mode: AtomicU8,
    /// Answers to writes that are still to be lost.
    lost: AtomicUsize,
    /// Where the server keeps what a path of a request names, if it is to forget conditions.
    forgets: Mutex<Option<PathBuf>>,
}

impl Proxy {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.mode.load(Ordering::Relaxed) == END {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A connection that breaks is what this is for.
                std::thread::spawn(move || shared.serve(client, server));
            }
        });
        Self { port, state }
    }

    /// Everything passes.
    pub(crate) fn pass(&self) {
        self.state.mode.store(PASS, Ordering::Relaxed);
    }

    /// Connections are closed at once.
    pub(crate) fn cut(&self) {
        self.state.mode.store(CUT, Ordering::Relaxed);
    }

    /// Requests are taken and not answered until everything passes again.
    pub(crate) fn silence(&self) {
        self.state.mode.store(SILENT, Ordering::Relaxed);
    }

    /// The next `writes` reach the server, their answers do not come back.
    pub(crate) fn lose_answers(&self, writes: usize) {
        self.state.lost.store(writes, Ordering::Relaxed);
    }

    /// Answers that are still to be lost.
    pub(crate) fn unlost(&self) -> usize {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Makes the server, which keeps its objects below `folder`, one that does not know `If-None-Match`: an object
    /// of that name is removed before a condition could find it.
    pub(crate) fn forget_conditions(&self, folder: PathBuf) {
        *self.state.forgets.lock().unwrap() = Some(folder);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.mode.store(END, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn serve(&self, mut client: TcpStream, server: u16) -> io::Result<()> {
        let head = read_head(&mut client)?;
        while self.mode.load(Ordering::Relaxed) == SILENT {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.mode.load(Ordering::Relaxed) != PASS {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let is_write = text.starts_with("put ");
        if let Some(folder) = &*self.forgets.lock().unwrap()
            && text.contains("\r\nif-none-match:")
        {
            let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = std::fs::remove_file(folder.join(path.trim_start_matches('/')));
        }
        let mut to = TcpStream::connect(("127.0.0.1", server))?;
        to.write_all(&head)?;
        let (mut rest, mut on) = (client.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || io::copy(&mut rest, &mut on));
        if is_write && self.take_lost() {
            let mut answer = Vec::new();
            to.read_to_end(&mut answer)?;
        } else {
            io::copy(&mut to, &mut client)?;
        }
        client.shutdown(Shutdown::Both)?;
        to.shutdown(Shutdown::Both)
    }

    fn take_lost(&self) -> bool {
        self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lost| lost.checked_sub(1)).is_ok()
    }
}

fn read_head(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => head.extend_from_slice(&part[..n]),
        }
    }
    Ok(head)
}
