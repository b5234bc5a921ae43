//! Several addresses of one server, tried staggered, on a network that a test plays.

use std::collections::HashMap;
use std::io::IoSlice;
use std::task::{Context, Poll};

use super::*;
use crate::net::Transport;

/// What an address does when it is connected to.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Answers,
    Refuses,
    /// Packets to it are lost.
    Mute,
    /// It accepts, and says nothing.
    Silent,
}

struct Played {
    hosts: HashMap<&'static str, Vec<SocketAddr>>,
    addresses: HashMap<SocketAddr, Behaviour>,
}

/// A connection that says `N` to an SSLRequest, or nothing at all.
#[derive(Debug)]
struct Line {
    says: Option<u8>,
}

impl Transport for Line {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer[0] = self.says.take().ok_or(io::ErrorKind::WouldBlock)?;
        Ok(1)
    }

    fn try_peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn may_read(&self) -> bool {
        self.says.is_some()
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.may_read() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn shut_down(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset(self) {}
}

impl Network for Played {
    type Transport = Line;

    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let found = self.hosts.get(host).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))
    }

    async fn connect(&self, address: SocketAddr, _: SocketOptions) -> io::Result<Line> {
        match self.addresses[&address] {
            Behaviour::Answers => Ok(Line { says: Some(b'N') }),
            Behaviour::Silent => Ok(Line { says: None }),
            Behaviour::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
            Behaviour::Mute => std::future::pending().await,
        }
    }
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// One name with these addresses.
fn network(behaviours: &[Behaviour]) -> Played {
    let addresses: Vec<_> = (1..).map(at).take(behaviours.len()).collect();
    let behaviours = behaviours.iter().copied();
    Played {
        addresses: addresses.iter().copied().zip(behaviours).collect(),
        hosts: HashMap::from([("holo", addresses)]),
    }
}

fn endpoint() -> Endpoint {
    let address = Address {
        host: "holo".into(),
        port: 80,
    };
    Endpoint::new(&Upstream::at(vec![address]), SocketOptions::default()).unwrap()
}

async fn connected(endpoint: &Endpoint, network: &Played) -> (SocketAddr, Duration) {
    let begun = Instant::now();
    let connected = endpoint.connect(network, Purpose::Session).await;
    (connected.unwrap().destination.address, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_mute_address_costs_a_quarter_of_a_second_once() {
    for first in [Behaviour::Mute, Behaviour::Silent] {
        let (endpoint, network) = (endpoint(), network(&[first, Behaviour::Answers]));
        let (address, took) = connected(&endpoint, &network).await;
        assert_eq!(address, at(2));
        assert!(took >= STAGGER && took < STAGGER * 2, "{took:?}");
        // It is known now.
        let again = connected(&endpoint, &network).await;
        assert_eq!(again, (at(2), Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_refuses_costs_nothing() {
    let behaviours = [Behaviour::Refuses, Behaviour::Refuses, Behaviour::Answers];
    let found = connected(&endpoint(), &network(&behaviours)).await;
    assert_eq!(found, (at(3), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn where_none_answers_the_first_failure_or_the_time_says_why() {
    let all_refuse = network(&[Behaviour::Refuses, Behaviour::Refuses]);
    let refused = endpoint().connect(&all_refuse, Purpose::Session).await;
    assert!(matches!(refused, Err(Unreachable::Connect { .. })));
    let mute = network(&[Behaviour::Mute, Behaviour::Silent]);
    let begun = Instant::now();
    let unanswered = endpoint().connect(&mute, Purpose::Session).await;
    assert!(matches!(unanswered, Err(Unreachable::Timeout { .. })));
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[test]
fn families_take_turns() {
    let found = |text: &str| Destination {
        address: text.parse().unwrap(),
        host: "holo".into(),
    };
    let all = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1"];
    let in_order = |answered: Option<&str>| -> Vec<String> {
        let answered = answered.map(|text| text.parse().unwrap());
        order(all.map(found).into(), answered)
            .iter()
            .map(|destination| destination.address.to_string())
            .collect()
    };
    let by_turns = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"];
    assert_eq!(in_order(None), by_turns);
    assert_eq!(in_order(Some("2.2.2.2:1"))[..2], ["2.2.2.2:1", "[::1]:1"]);
}
