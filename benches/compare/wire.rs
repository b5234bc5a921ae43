//! The client of the bench for large results: no client of PostgreSQL throws rows away fast enough
//! to measure a proxy with it.
//!
//! ```text
//! wire drain ADDRESS DATABASE USER CA|- SQL               reads what SQL returns, up to ReadyForQuery
//! wire fill  ADDRESS DATABASE USER CA|- SQL ROW ROWS      sends ROWS rows of ROW bytes to COPY … FROM STDIN
//! ```
//!
//! With the file of a certificate authority instead of `-`, over TLS. The login must be `trust`. Prints
//! the bytes that were read or sent, and the seconds that it took.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

type Failure = Box<dyn Error>;

/// Bytes of one read or write.
const BUFFER: usize = 256 << 10;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("the bench sends short messages");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn connect(address: &str, authority: &str) -> Result<Box<dyn Stream>, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    if authority == "-" {
        return Ok(Box::new(stream));
    }
    // SSLRequest: its length and its code (PostgreSQL, "Message Formats").
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer != *b"S" {
        return Err("the server does not offer TLS".into());
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(
        Arc::new(config),
        ServerName::try_from("localhost".to_owned())?,
    )?;
    Ok(Box::new(rustls::StreamOwned::new(session, stream)))
}

fn log_in(stream: &mut dyn Stream, database: &str, user: &str) -> Result<(), Failure> {
    let mut startup = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, ""] {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    let length = u32::try_from(startup.len() + 4)?;
    stream.write_all(&[&length.to_be_bytes()[..], &startup].concat())?;
    until(stream, b'Z')?;
    Ok(())
}

/// Reads and throws away, up to and including a message of the kind `last`. Returns the bytes.
fn until(stream: &mut dyn Stream, last: u8) -> Result<u64, Failure> {
    let mut buffer = vec![0; BUFFER];
    let (mut total, mut held, mut skip) = (0, 0, 0_usize);
    loop {
        let read = stream.read(&mut buffer[held..])?;
        if read == 0 {
            return Err("the connection ended".into());
        }
        total += read as u64;
        let end = held + read;
        let mut at = skip.min(end);
        skip -= at;
        while let Some((&[tag, a, b, c, d], body)) = buffer[at..end].split_first_chunk::<5>() {
            if tag == b'E' {
                return Err(String::from_utf8_lossy(body).replace('\0', " ").into());
            }
            let frame = u32::from_be_bytes([a, b, c, d]) as usize + 1;
            if tag == last && frame <= end - at {
                return Ok(total);
            }
            if frame > end - at && tag != last {
                skip = frame - (end - at);
                at = end;
                break;
            }
            if frame > end - at {
                break;
            }
            at += frame;
        }
        buffer.copy_within(at..end, 0);
        held = end - at;
    }
}

/// One message for each row, as many drivers send them.
fn fill(stream: &mut dyn Stream, row: usize, rows: usize) -> Result<u64, Failure> {
    let mut text = vec![b'x'; row.saturating_sub(1)];
    text.push(b'\n');
    let message = frame(b'd', &text);
    let at_once = (BUFFER / message.len()).max(1);
    let batch = message.repeat(at_once);
    for start in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - start);
        stream.write_all(&batch[..count * message.len()])?;
    }
    stream.write_all(&frame(b'c', b""))?;
    stream.flush()?;
    until(stream, b'Z')?;
    Ok((message.len() * rows) as u64)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [
        command,
        address,
        database,
        user,
        authority,
        sql,
        numbers @ ..,
    ] = arguments.as_slice()
    else {
        return Err("usage: wire drain|fill ADDRESS DATABASE USER CA|- SQL [ROW ROWS]".into());
    };
    let mut stream = connect(address, authority)?;
    log_in(&mut *stream, database, user)?;
    let query = frame(b'Q', &[sql.as_bytes(), b"\0"].concat());
    let start = Instant::now();
    stream.write_all(&query)?;
    let bytes = match (*command, numbers) {
        ("drain", []) => until(&mut *stream, b'Z')?,
        ("fill", [row, rows]) => {
            until(&mut *stream, b'G')?;
            fill(&mut *stream, row.parse()?, rows.parse()?)?
        }
        _ => return Err("wire: drain takes no numbers, fill takes two".into()),
    };
    println!("{bytes} {:.6}", start.elapsed().as_secs_f64());
    Ok(())
}
