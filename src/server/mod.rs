//! A placeholder with the signatures that `osprey demo` is written against; not to be merged.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::config::Settings;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] std::io::Error);

/// The server.
pub struct Server {
    listener: TcpListener,
    metrics: TcpListener,
    addresses: [SocketAddr; 2],
    upstream: (String, u16),
}

impl Server {
    /// Binds the listeners.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound.
    pub fn bind(settings: Settings) -> Result<Self, Error> {
        let listener = TcpListener::bind(&settings.listen.addresses[..])?;
        let metrics = TcpListener::bind(settings.observe.metrics.as_slice())?;
        let addresses = [listener.local_addr()?, metrics.local_addr()?];
        let upstream = (settings.upstream.host, settings.upstream.port);
        Ok(Self {
            listener,
            metrics,
            addresses,
            upstream,
        })
    }

    /// Where clients connect.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.addresses[..1]
    }

    /// Where metrics are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        Some(self.addresses[1])
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let injections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&injections);
        std::thread::spawn(move || {
            for mut stream in self.metrics.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let count = counted.load(SeqCst);
                let _ = write!(
                    stream,
                    "HTTP/1.0 200 OK\r\n\r\nosprey_injections_total {count}\nosprey_catalog_protected_relations{{database=\"shop\"}} 2\n"
                );
            }
        });
        std::thread::spawn(move || {
            for client in self.listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((self.upstream.0.as_str(), self.upstream.1))
                else {
                    continue;
                };
                let injections = Arc::clone(&injections);
                std::thread::spawn(move || relay(client, server, &injections));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(shutdown);
        Ok(())
    }
}

fn frame(from: &mut TcpStream, tag: bool) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4 + usize::from(tag)];
    from.read_exact(&mut frame)?;
    let at = usize::from(tag);
    let length =
        u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]) as usize;
    let header = frame.len();
    frame.resize(at + length, 0);
    from.read_exact(&mut frame[header..])?;
    Ok(frame)
}

fn relay(mut client: TcpStream, mut server: TcpStream, injections: &AtomicU64) -> Option<()> {
    let swallow = Arc::new(AtomicU64::new(0));
    let (mut to_client, mut from_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let swallowing = Arc::clone(&swallow);
    std::thread::spawn(move || {
        while let Ok(frame) = frame(&mut from_server, true) {
            if swallowing.load(SeqCst) == 0 {
                if to_client.write_all(&frame).is_err() {
                    break;
                }
            } else if frame[0] == b'Z' {
                swallowing.store(0, SeqCst);
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    server.write_all(&frame(&mut client, false).ok()?).ok()?;
    let mut set = false;
    while let Ok(frame) = frame(&mut client, true) {
        let text = String::from_utf8_lossy(&frame);
        if !set
            && (text.contains("sales_encrypted") || text.contains("FROM revenue"))
            && b"QP".contains(&frame[0])
        {
            set = true;
            injections.fetch_add(1, SeqCst);
            swallow.store(1, SeqCst);
            let sql = b"SET hg_experimental_enable_access_odps_orc_via_holo = false\0";
            let mut query = vec![b'Q'];
            query.extend((sql.len() as u32 + 4).to_be_bytes());
            query.extend(sql);
            server.write_all(&query).ok()?;
        }
        server.write_all(&frame).ok()?;
    }
    server.shutdown(Shutdown::Both).ok()
}

/// Serves until it is told to stop.
///
/// # Errors
/// See [`Error`].
pub fn run(settings: Settings) -> Result<(), Error> {
    Server::bind(settings)?.run(std::future::pending())
}
