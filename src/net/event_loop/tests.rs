//! The loop by itself: wakers of its own and of other threads, timers, sockets, panics, shares.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{EventLoop, share, spawn};
use crate::net::time::{sleep, sleep_until, timeout};
use crate::net::{Network as _, SocketOptions, Stream, Tcp, TcpNetwork, Transport as _};

const SOON: Duration = Duration::from_secs(20);

/// Runs a test in a loop; one that hangs fails.
fn run(test: impl Future<Output = ()> + 'static) {
    let event_loop = EventLoop::new().expect("a loop");
    let ended = event_loop.run(async {
        timeout(SOON, test).await.expect("it hangs");
    });
    ended.expect("epoll");
}

/// Both ends of a connection, of which the first is the loop's.
async fn connection() -> (Tcp, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let options = SocketOptions::default();
    let connected = TcpNetwork.connect(address, options).await.unwrap();
    (connected, listener.accept().unwrap().0)
}

#[test]
fn a_task_is_woken_by_tasks_beside_it_and_by_other_threads() {
    run(async {
        let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        for _ in 0..100 {
            let (hears, says) = (Arc::clone(&first), Arc::clone(&second));
            spawn(async move {
                hears.notified().await;
                thread::spawn(move || says.notify_one());
            });
            let from_here = Arc::clone(&first);
            spawn(async move { from_here.notify_one() });
            second.notified().await;
        }
    });
}

#[test]
fn timers_come_in_their_order_and_not_early() {
    run(async {
        let begun = Instant::now();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (ended, mut all_ended) = tokio::sync::mpsc::channel::<()>(1);
        for milliseconds in [40, 10, 25, 0] {
            let (order, ended) = (Arc::clone(&order), ended.clone());
            spawn(async move {
                let limit = Duration::from_millis(milliseconds);
                sleep(limit).await;
                assert!(begun.elapsed() >= limit);
                order.lock().unwrap().push(milliseconds);
                drop(ended);
            });
        }
        drop(ended);
        let _ = all_ended.recv().await;
        assert_eq!(*order.lock().unwrap(), [0, 10, 25, 40]);
        // One that is given up is forgotten, and a moment that is past is one at once.
        let late = timeout(Duration::from_millis(5), sleep(Duration::from_hours(1)));
        assert!(late.await.is_err());
        sleep_until(begun).await;
    });
}

#[test]
fn a_panic_ends_its_task_alone() {
    run(async {
        let (told, hears) = oneshot::channel::<()>();
        spawn(async move {
            let _told = told;
            panic!("a fault of a test's");
        });
        assert!(hears.await.is_err());
        let (told, hears) = oneshot::channel();
        spawn(async move { told.send(7).unwrap() });
        assert_eq!(hears.await, Ok(7));
    });
}

#[test]
fn room_for_many_is_given_back_once_none_is_left() {
    run(async {
        let (ended, mut all_ended) = tokio::sync::mpsc::channel::<()>(1);
        for _ in 0..super::KEPT * 2 {
            let ended = ended.clone();
            spawn(async move {
                share().await;
                drop(ended);
            });
        }
        drop(ended);
        let _ = all_ended.recv().await;
        let (told, hears) = oneshot::channel();
        spawn(async move { told.send(7).unwrap() });
        assert_eq!(hears.await, Ok(7), "who comes then is served");
    });
}

#[test]
fn a_panic_in_what_is_dropped_is_its_own() {
    struct Faulty;
    impl Drop for Faulty {
        fn drop(&mut self) {
            panic!("a fault of a test's");
        }
    }
    let dropped = Arc::new(());
    let kept = Arc::clone(&dropped);
    run(async move {
        for _ in 0..2 {
            let faulty = (Faulty, Arc::clone(&kept));
            spawn(async move {
                std::future::pending::<()>().await;
                drop(faulty);
            });
        }
        drop(kept);
        sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn what_is_left_is_dropped_with_the_loop() {
    let dropped = Arc::new(());
    let kept = Arc::clone(&dropped);
    run(async move {
        spawn(async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn who_never_waits_shares_all_the_same() {
    run(async {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                share().await;
            }
        });
        sleep(Duration::from_millis(5)).await;
        assert!(turns.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn bytes_and_the_end_of_a_connection_are_heard_of() {
    run(async {
        let (transport, mut peer) = connection().await;
        let mut stream = Stream::Plain(transport);
        assert!(!stream.may_read());
        thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let mut read = [0; 5];
            peer.read_exact(&mut read).unwrap();
            peer.write_all(&read).unwrap();
        });
        stream.send(b"hello").await.unwrap();
        let mut heard = Vec::new();
        while stream.receive(&mut heard).await.unwrap() > 0 {}
        assert_eq!(heard, b"hello");
    });
}

#[test]
fn what_comes_with_the_end_is_read_and_then_the_end() {
    run(async {
        let (mut transport, peer) = connection().await;
        {
            use std::io::Write as _;
            let mut peer = peer;
            peer.write_all(b"bye").unwrap();
        }
        std::future::poll_fn(|context| transport.poll_ended(context)).await;
        let mut room = [0; 64];
        assert_eq!(transport.try_peek(&mut room).unwrap(), 3);
        assert_eq!(transport.try_read(&mut room).unwrap(), 3);
        assert!(transport.may_read(), "the end is there to be read");
        assert_eq!(transport.try_read(&mut room).unwrap(), 0);
    });
}

#[test]
fn the_end_is_heard_of_by_who_does_not_read() {
    run(async {
        let (mut transport, mut peer) = connection().await;
        let (told, hears) = oneshot::channel();
        thread::spawn(move || {
            use std::io::Write as _;
            peer.write_all(b"something").unwrap();
            thread::sleep(Duration::from_millis(20));
            peer.write_all(b" more").unwrap();
            told.send(()).unwrap();
            thread::sleep(Duration::from_millis(20));
        });
        let mut heard = false;
        let mut hears = std::pin::pin!(hears);
        std::future::poll_fn(|context| {
            heard |= !heard && hears.as_mut().poll(context).is_ready();
            transport.poll_ended(context)
        })
        .await;
        assert!(heard, "data is no end");
    });
}

#[test]
fn a_peer_that_takes_nothing_is_waited_for() {
    run(async {
        let (transport, peer) = connection().await;
        let mut stream = Stream::Plain(transport);
        let reading = thread::spawn(move || {
            use std::io::Read as _;
            thread::sleep(Duration::from_millis(50));
            let mut all = Vec::new();
            let mut peer = peer;
            peer.read_to_end(&mut all).unwrap();
            all.len()
        });
        let much = vec![7; 8 << 20];
        stream.send(&much).await.unwrap();
        drop(stream);
        assert_eq!(reading.join().unwrap(), much.len());
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = TcpNetwork.connect(address, SocketOptions::default()).await;
        let refused = refused.expect_err("nobody listens there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}
