//! What a client sends before authentication: StartupMessage, SSLRequest, GSSENCRequest and
//! CancelRequest. These frames have no type byte.

/// Longest startup packet accepted, as in PostgreSQL: 10,000 bytes (`MAX_STARTUP_PACKET_LENGTH`) behind
/// its length.
pub const MAX_STARTUP: usize = 10_004;
/// Longest authentication message accepted, as in PostgreSQL (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub const MAX_AUTHENTICATION: usize = 65_535;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// One packet without a type byte, borrowed from the bytes that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The client asks for TLS.
    SslRequest,
    /// The client asks for GSSAPI encryption.
    GssEncRequest,
    /// The client asks to cancel; the whole packet, to be forwarded as it is.
    Cancel(&'a [u8]),
    /// The client starts a session.
    Startup(Startup<'a>),
}

/// A StartupMessage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup<'a> {
    /// The whole packet, to be forwarded as it is.
    pub packet: &'a [u8],
    parameters: &'a [u8],
}

/// What to say of another protocol that is met where a startup packet is expected, if it begins so.
fn foreign(begins: [u8; 4]) -> Option<&'static str> {
    match &begins {
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"OPTI" | b"CONN" | b"PRI " => {
            Some("an HTTP request")
        }
        [0x16, 3, ..] => {
            Some("a TLS handshake that nobody has agreed on (this listener has no certificate)")
        }
        b"PROX" | b"\r\n\r\n" => {
            Some("a PROXY header (this listener does not read them: see its proxy_protocol)")
        }
        _ => None,
    }
}

/// Why a startup packet cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Shorter than its own header or longer than [`MAX_STARTUP`].
    #[error("invalid length of startup packet")]
    Length,
    /// Another protocol's beginning.
    #[error("what came is {0}, and not PostgreSQL's protocol")]
    Foreign(&'static str),
    /// Not protocol 3.
    #[error("unsupported frontend protocol {major}.{minor}: Osprey speaks 3.0 and later")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The parameters do not end with a NUL.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
}

impl<'a> Packet<'a> {
    /// How many bytes the packet at the start of `input` has; `Ok(None)`: not known yet.
    ///
    /// # Errors
    ///
    /// [`BadPacket::Length`] or [`BadPacket::Foreign`].
    pub fn length(input: &[u8]) -> Result<Option<usize>, BadPacket> {
        let Some((length, _)) = input.split_first_chunk::<4>() else {
            return Ok(None);
        };
        match u32::from_be_bytes(*length) as usize {
            size @ 8..=MAX_STARTUP => Ok(Some(size)),
            _ => Err(foreign(*length).map_or(BadPacket::Length, BadPacket::Foreign)),
        }
    }

    /// Reads a whole packet, as long as [`Packet::length`] says.
    ///
    /// # Errors
    ///
    /// See [`BadPacket`].
    pub fn read(packet: &'a [u8]) -> Result<Self, BadPacket> {
        let (Some(code), Some(body)) = (packet.get(4..8), packet.get(8..)) else {
            return Err(BadPacket::Length);
        };
        let code = u32::from_be_bytes([code[0], code[1], code[2], code[3]]);
        match code {
            SSL_REQUEST if body.is_empty() => Ok(Self::SslRequest),
            GSSENC_REQUEST if body.is_empty() => Ok(Self::GssEncRequest),
            // Process id and a key of 4 to 256 bytes (protocol 3.2).
            CANCEL_REQUEST if (8..=260).contains(&body.len()) => Ok(Self::Cancel(packet)),
            SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST => Err(BadPacket::Length),
            _ if code >> 16 == 3 => {
                if body.last() == Some(&0) {
                    Ok(Self::Startup(Startup {
                        packet,
                        parameters: body,
                    }))
                } else {
                    Err(BadPacket::Layout)
                }
            }
            _ => Err(BadPacket::Version {
                major: (code >> 16) as u16,
                minor: code as u16,
            }),
        }
    }
}

impl<'a> Startup<'a> {
    /// The parameters in order.
    pub fn parameters(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.parameters;
        std::iter::from_fn(move || {
            let (name, after) = split_word(rest)?;
            if name.is_empty() {
                return None;
            }
            let (value, after) = split_word(after)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The last value of a parameter: PostgreSQL, too, lets the last one win.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.parameters()
            .filter(|(key, _)| *key == name.as_bytes())
            .last()
            .map(|(_, value)| value)
    }

    /// The user; empty if it is missing (the server refuses then).
    pub fn user(self) -> &'a [u8] {
        as_a_name(self.get("user").unwrap_or_default())
    }

    /// The database; PostgreSQL takes the user's name where there is none.
    pub fn database(self) -> &'a [u8] {
        match self.get("database") {
            None | Some(b"") => self.user(),
            Some(database) => as_a_name(database),
        }
    }

    /// True in replication mode: `replication` set to anything but a false.
    pub fn is_replication(self) -> bool {
        self.get("replication").is_some_and(|value| {
            !["", "0", "f", "false", "n", "no", "off"]
                .iter()
                .any(|no| value.eq_ignore_ascii_case(no.as_bytes()))
        })
    }

    /// The words of `options`, split as PostgreSQL splits them (`pg_split_opts`): at white space,
    /// a backslash makes the next character literal.
    pub fn options(self) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        let mut word: Option<Vec<u8>> = None;
        let mut bytes = self.get("options").unwrap_or_default().iter();
        while let Some(&byte) = bytes.next() {
            if byte.is_ascii_whitespace() || byte == 0x0b {
                words.extend(word.take());
                continue;
            }
            let word = word.get_or_insert_default();
            match byte {
                b'\\' => word.extend(bytes.next()),
                byte => word.push(byte),
            }
        }
        words.extend(word);
        words
    }

    /// The settings that the client makes at startup, in the order in which PostgreSQL makes them
    /// (`process_startup_options`), so that the last one of a name counts: `-c name=value`,
    /// `-cname=value` and `--name=value` in `options`, then the parameters that are not the protocol's
    /// own. Names in lower case, in options with `-` read as `_`.
    pub fn settings(self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut settings = Vec::new();
        let mut words = self.options().into_iter();
        while let Some(word) = words.next() {
            let assignment = match word.as_slice() {
                b"-c" => words.next(),
                [b'-', b'c' | b'-', rest @ ..] => Some(rest.to_vec()),
                _ => None,
            };
            if let Some((name, value)) = assignment
                .as_deref()
                .map(text)
                .as_deref()
                .and_then(|assignment| assignment.split_once('='))
            {
                settings.push((
                    name.to_ascii_lowercase().replace('-', "_"),
                    value.to_owned(),
                ));
            }
        }
        let own = ["user", "database", "options", "replication"];
        let parameters = self
            .parameters()
            .map(|(name, value)| (text(name).to_ascii_lowercase(), text(value)))
            .filter(|(name, _)| !own.contains(&name.as_str()) && !name.starts_with("_pq_."));
        settings.extend(parameters);
        settings
    }

    /// The value that the client gives the setting of this name, in lower case, at startup: the last one
    /// of [`settings`](Self::settings).
    pub fn setting(self, name: &str) -> Option<String> {
        let (mut options, mut its_own) = (&[][..], None);
        for (parameter, value) in self.parameters() {
            if parameter == b"options" {
                options = value;
            } else if parameter.eq_ignore_ascii_case(name.as_bytes()) {
                its_own = Some(value);
            }
        }
        match its_own {
            Some(value) => Some(String::from_utf8_lossy(value).into_owned()),
            None if options.is_empty() => None,
            None => {
                let mut settings = self.settings().into_iter().rev();
                settings.find_map(|(setting, value)| (setting == name).then_some(value))
            }
        }
    }

    /// True if `options` asks for Hologres' fixed front end (`type=fixed`), which runs no SET.
    pub fn is_fixed_front_end(self) -> bool {
        self.options().iter().any(|word| word == b"type=fixed")
    }
}

/// Bytes of a name that count: PostgreSQL cuts the user's and the database's to them, without regard to
/// characters, before it looks for either (`NAMEDATALEN`, less its zero).
const NAME: usize = 63;

fn as_a_name(given: &[u8]) -> &[u8] {
    &given[..given.len().min(NAME)]
}

/// As [`split_cstr`](super::split_cstr), for texts so short that a search that is quick at long ones costs more
/// than it finds.
fn split_word(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.iter().position(|&byte| byte == 0)?;
    Some((&input[..end], &input[end + 1..]))
}

/// The SSLRequest packet, for the upstream.
pub fn ssl_request() -> [u8; 8] {
    let mut packet = [0; 8];
    packet[..4].copy_from_slice(&8_u32.to_be_bytes());
    packet[4..].copy_from_slice(&SSL_REQUEST.to_be_bytes());
    packet
}

/// A CancelRequest for the process id and key that a BackendKeyData body holds.
pub fn cancel_request(key_data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(8 + key_data.len());
    let length = u32::try_from(8 + key_data.len()).unwrap_or(u32::MAX);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
    packet.extend_from_slice(key_data);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend_from_slice(&u32::try_from(8 + body.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    fn startup(bytes: &[u8]) -> Startup<'_> {
        match Packet::read(bytes) {
            Ok(Packet::Startup(startup)) => startup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_and_defaults() {
        let bytes = packet(196_608, b"user\0ann\0database\0sales@wh\0\0");
        assert_eq!(startup(&bytes).user(), b"ann");
        assert_eq!(startup(&bytes).database(), b"sales@wh");
        let bytes = packet(196_610, b"user\0ann\0\0");
        assert_eq!(startup(&bytes).database(), b"ann");
        assert!(!startup(&bytes).is_replication());
        let bytes = packet(196_608, b"user\0a\0replication\0database\0\0");
        assert!(startup(&bytes).is_replication());
    }

    #[test]
    fn options_are_split_as_postgresql_splits_them() {
        let bytes = packet(
            196_608,
            b"user\0a\0options\0-c a=b -cC-d=e\\ f  --g=h type=fixed\0search_path\0x\0\0",
        );
        let startup = startup(&bytes);
        assert_eq!(
            startup.settings(),
            [("a", "b"), ("c_d", "e f"), ("g", "h"), ("search_path", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(startup.is_fixed_front_end());
    }

    #[test]
    fn the_last_value_of_a_setting_counts() {
        let bytes = packet(
            196_608,
            b"user\0a\0Search_Path\0x\0search_path\0y\0options\0\0\0",
        );
        assert_eq!(startup(&bytes).setting("search_path"), Some("y".into()));
        assert_eq!(startup(&bytes).setting("client_encoding"), None);
        let bytes = packet(
            196_608,
            b"search_path\0x\0options\0-c search-path=y -c search_path=z -c a.b=c\0user\0a\0\0",
        );
        assert_eq!(startup(&bytes).setting("search_path"), Some("x".into()));
        assert_eq!(startup(&bytes).setting("a.b"), Some("c".into()));
        let bytes = packet(
            196_608,
            b"options\0-c search-path=y -c search_path=z\0user\0a\0\0",
        );
        assert_eq!(startup(&bytes).setting("search_path"), Some("z".into()));
        assert_eq!(startup(&bytes).setting("client_encoding"), None);
    }

    #[test]
    fn of_long_names_as_much_counts_as_the_server_reads() {
        let name = |length| "n".repeat(length);
        for (given, read) in [(62, 62), (63, 63), (64, 63), (300, 63)] {
            let body = format!("user\0{0}\0database\0{0}\0\0", name(given));
            let bytes = packet(196_608, body.as_bytes());
            assert_eq!(startup(&bytes).user(), name(read).as_bytes());
            assert_eq!(startup(&bytes).database(), name(read).as_bytes());
        }
    }

    #[test]
    fn bad_packets_are_told_apart() {
        assert_eq!(Packet::length(b"\0\0\0"), Ok(None));
        assert_eq!(Packet::length(b"\0\0\0\x07"), Err(BadPacket::Length));
        assert_eq!(Packet::length(b"\xff\xff\xff\xff"), Err(BadPacket::Length));
        for (begins, what) in [
            (b"GET ", "HTTP"),
            (b"PRI ", "HTTP"),
            (b"\x16\x03\x01\x02", "TLS"),
            (b"PROX", "PROXY"),
            (b"\r\n\r\n", "PROXY"),
        ] {
            let error = Packet::length(begins).expect_err("it is no length");
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_eq!(
            Packet::read(&packet(131_072, b"x\0")),
            Err(BadPacket::Version { major: 2, minor: 0 })
        );
        assert_eq!(
            Packet::read(&packet(196_608, b"user\0a")),
            Err(BadPacket::Layout)
        );
        assert_eq!(
            Packet::read(&packet(SSL_REQUEST, b"x")),
            Err(BadPacket::Length)
        );
    }

    #[test]
    fn cancel_requests_keep_keys_of_any_length() {
        for key in [4, 32, 256] {
            let body = vec![7; 4 + key];
            let bytes = cancel_request(&body);
            assert_eq!(Packet::length(&bytes), Ok(Some(bytes.len())));
            assert_eq!(Packet::read(&bytes), Ok(Packet::Cancel(&bytes)));
        }
    }
}
