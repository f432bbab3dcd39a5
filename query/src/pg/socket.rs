//! Notices that a client has closed its side, while the connection's task is busy with a statement and reads
//! nothing.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// The socket, and a future that ends when the client has closed it. The future reads nothing: it waits on a
/// second handle of the same socket for the kernel to say so.
pub(super) fn watched(socket: TcpStream) -> io::Result<(TcpStream, impl Future<Output = ()> + Send)> {
    let socket = socket.into_std()?;
    let second = TcpStream::from_std(socket.try_clone()?)?;
    Ok((TcpStream::from_std(socket)?, closed(second)))
}

async fn closed(socket: TcpStream) {
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        // Data for the other handle: wait for the next event.
        let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}
