//! How many connections there may be at each step of their way. Each bound is counted by places,
//! which are given back when they are dropped, whatever ends their holder.

use std::hash::Hash;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Limits, Quota};
use crate::observe::MeasuredLimit;
use crate::observe::Seldom;
use crate::observe::metrics::Limit;

/// Whose rates of one kind are remembered; beyond, those at rest are forgotten.
const MAX_RATES: usize = 10_000;

/// All places, one kind for each bound.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Connections that have not said what they want.
    pub(crate) greetings: Arc<Places>,
    /// Logins in progress.
    pub(crate) logins: Arc<Places>,
    /// Sessions that are logged in.
    pub(crate) sessions: Arc<Places>,
    /// The same by upstream.
    by_upstream: DashMap<String, Arc<Places>>,
    /// The same by upstream and user.
    pub(crate) by_user: Arc<Shares>,
    /// The same by upstream and database.
    pub(crate) by_database: Arc<Shares>,
    /// How many sessions may begin: all together, from one address, of one user.
    pub(crate) new_sessions: Rates<()>,
    /// See `new_sessions`.
    pub(crate) new_sessions_by_address: Rates<IpAddr>,
    /// See `new_sessions`.
    pub(crate) new_sessions_by_user: Rates<Share>,
    /// Cancel requests on their way whose session is served here.
    pub(crate) cancels: Arc<Places>,
    /// Cancel requests on their way whose session is not served here. They cannot take the places
    /// of the others.
    pub(crate) unknown_cancels: Arc<Places>,
    /// How many such requests each address may send.
    pub(crate) unknown_rates: Rates<IpAddr>,
    /// The log lines about cancels that failed or were dropped.
    pub(crate) cancel_log: Seldom,
    /// The log lines about connections that were refused.
    pub(crate) refusal_log: Seldom,
}

impl Admission {
    /// Every limit on what may be open at a time, and what is.
    pub(crate) fn limits<'u>(
        &self,
        limits: &Limits,
        upstreams: impl Iterator<Item = (&'u str, Option<usize>)>,
    ) -> Vec<MeasuredLimit> {
        let of_quota = |name: &str, quota: &Quota, places: &Places| MeasuredLimit {
            setting: format!("limits.{name}"),
            most: quota.total,
            per_address: quota.per_address,
            taken: places.taken(),
        };
        let mut all = vec![
            of_quota("max_sessions", &limits.max_sessions, &self.sessions),
            of_quota("max_greetings", &limits.max_greetings, &self.greetings),
            of_quota("max_logins", &limits.max_logins, &self.logins),
        ];
        let without_quota = |setting, most, places: &Places| MeasuredLimit {
            setting,
            most,
            per_address: None,
            taken: places.taken(),
        };
        let cancels = "limits.max_cancels".to_owned();
        all.push(without_quota(cancels, limits.max_cancels, &self.cancels));
        for (name, most, shares) in [
            ("user", limits.max_sessions_per_user, &self.by_user),
            (
                "database",
                limits.max_sessions_per_database,
                &self.by_database,
            ),
        ] {
            all.extend(most.map(|most| MeasuredLimit {
                setting: format!("limits.max_sessions_per_{name}"),
                most,
                per_address: None,
                taken: shares.largest(),
            }));
        }
        all.extend(upstreams.filter_map(|(name, most)| {
            let setting = format!("upstream.{name}.max_sessions");
            Some(without_quota(setting, most?, &self.of_upstream(name)))
        }));
        all
    }

    /// The places of one upstream, by its name.
    pub(crate) fn of_upstream(&self, name: &str) -> Arc<Places> {
        if let Some(places) = self.by_upstream.get(name) {
            return Arc::clone(&places);
        }
        Arc::clone(&self.by_upstream.entry(name.to_owned()).or_default())
    }
}

/// What is counted against one [`Quota`].
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: AtomicUsize,
    by_address: DashMap<IpAddr, usize, foldhash::fast::RandomState>,
    freed: Notify,
}

/// Which part of a quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All places are taken.
    Total,
    /// Those of this address are.
    PerAddress,
}

impl Full {
    /// The setting that is used up, for messages and metrics.
    pub(crate) fn limit(self, total: Limit, per_address: Limit) -> Limit {
        match self {
            Self::Total => total,
            Self::PerAddress => per_address,
        }
    }
}

/// The number in `quota` that is used up.
pub(crate) fn bound(full: Full, quota: Quota) -> usize {
    match full {
        Full::Total => quota.total,
        Full::PerAddress => quota.per_address.unwrap_or(quota.total),
    }
}

impl Places {
    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many addresses have one.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> usize {
        self.by_address.len()
    }

    /// Takes a place, given up when it is dropped.
    ///
    /// # Errors
    ///
    /// The quota is used up.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, quota: Quota) -> Result<Place, Full> {
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let free = |taken| (taken < quota.total).then_some(taken + 1);
        if self.taken.fetch_update(set, fetch, free).is_err() {
            return Err(Full::Total);
        }
        if !self.count(address, quota) {
            self.give_back();
            return Err(Full::PerAddress);
        }
        Ok(Place {
            places: Arc::clone(self),
            address,
        })
    }

    /// Takes a place as soon as there is one.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        address: IpAddr,
        quota: Quota,
    ) -> Result<Place, Full> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            match self.take(address, quota) {
                Err(Full::Total) => freed.await,
                taken => return taken,
            }
        }
    }

    /// Waits until fewer than `total` places are taken.
    pub(crate) async fn wait_for_room(&self, total: usize) {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.taken() < total {
                return;
            }
            freed.await;
        }
    }

    fn count(&self, address: IpAddr, quota: Quota) -> bool {
        let mut taken = self.by_address.entry(address).or_default();
        if quota.per_address.is_some_and(|most| *taken >= most) {
            return false;
        }
        *taken += 1;
        true
    }

    fn uncount(&self, address: IpAddr) {
        if let dashmap::Entry::Occupied(mut taken) = self.by_address.entry(address) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_waiters();
    }
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Place {
    /// The client turns out to be at another address: the place is counted there.
    ///
    /// # Errors
    ///
    /// That address has used its part up; the place is still counted where it was.
    pub(crate) fn moves_to(&mut self, address: IpAddr, quota: Quota) -> Result<(), Full> {
        if address == self.address {
            return Ok(());
        }
        if !self.places.count(address, quota) {
            return Err(Full::PerAddress);
        }
        self.places.uncount(self.address);
        self.address = address;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.uncount(self.address);
        self.places.give_back();
    }
}

/// Whose part of something is counted: the upstream's name, and a user's or a database's.
pub(crate) type Share = (String, String);

/// Parts that are counted for as long as somebody holds one.
#[derive(Debug, Default)]
pub(crate) struct Shares(DashMap<Share, usize, foldhash::fast::RandomState>);

impl Shares {
    /// How many are taken of this one.
    pub(crate) fn taken(&self, share: &Share) -> usize {
        self.0.get(share).map_or(0, |taken| *taken)
    }

    /// How many whoever has the most of them has.
    fn largest(&self) -> usize {
        let taken = self.0.iter().map(|taken| *taken);
        taken.max().unwrap_or(0)
    }

    /// Takes one of at most `most`, given back when it is dropped.
    pub(crate) fn take(self: &Arc<Self>, share: &Share, most: usize) -> Option<Held> {
        if most == 0 {
            return None;
        }
        let mut taken = self.0.entry(share.clone()).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Held {
            shares: Arc::clone(self),
            share: share.clone(),
        })
    }
}

/// One of somebody's part, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    shares: Arc<Shares>,
    share: Share,
}

impl Drop for Held {
    fn drop(&mut self) {
        let share = std::mem::take(&mut self.share);
        if let dashmap::Entry::Occupied(mut taken) = self.shares.0.entry(share) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// So many a second for each key, with a second's worth at once.
#[derive(Debug)]
pub(crate) struct Rates<K: Eq + Hash>(DashMap<K, Bucket, foldhash::fast::RandomState>);

impl<K: Eq + Hash> Default for Rates<K> {
    fn default() -> Self {
        Self(DashMap::default())
    }
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> Rates<K> {
    /// True if `key` may have one more now.
    pub(crate) fn allows(&self, key: K, per_second: usize) -> bool {
        let now = Instant::now();
        #[allow(clippy::cast_precision_loss)] // A setting of some hundreds.
        let most = per_second as f64;
        let refilled = |bucket: &Bucket| bucket.left + most * (now - bucket.at).as_secs_f64();
        if self.0.len() >= MAX_RATES {
            self.0.retain(|_, bucket| refilled(bucket) < most);
        }
        let mut bucket = self.0.entry(key).or_insert(Bucket {
            left: most,
            at: now,
        });
        let left = refilled(&bucket).min(most);
        let allowed = left >= 1.0;
        *bucket = Bucket {
            left: if allowed { left - 1.0 } else { left },
            at: now,
        };
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn places_are_counted_together_and_by_address_and_given_back() {
        let places = Arc::new(Places::default());
        let quota = Quota {
            total: 3,
            per_address: Some(2),
        };
        let first = places.take(HERE, quota).unwrap();
        let second = places.take(HERE, quota).unwrap();
        assert_eq!(places.take(HERE, quota).unwrap_err(), Full::PerAddress);
        let third = places.take(THERE, quota).unwrap();
        assert_eq!(places.take(THERE, quota).unwrap_err(), Full::Total);
        drop(first);
        assert_eq!(places.taken(), 2);
        let again = places.take(HERE, quota).unwrap();
        drop((again, third, second));
        assert_eq!((places.taken(), places.by_address.len()), (0, 0));
    }

    #[test]
    fn a_place_moves_to_the_address_that_a_load_balancer_names() {
        let places = Arc::new(Places::default());
        let quota = Quota {
            total: 9,
            per_address: Some(1),
        };
        let mut first = places.take(HERE, quota).unwrap();
        first.moves_to(THERE, quota).unwrap();
        let mut second = places.take(HERE, quota).unwrap();
        assert_eq!(second.moves_to(THERE, quota), Err(Full::PerAddress));
        drop((first, second));
        assert_eq!((places.taken(), places.by_address.len()), (0, 0));
    }

    #[test]
    fn shares_are_given_back_and_leave_nothing_behind() {
        let shares = Arc::new(Shares::default());
        let [one, other] = ["app", "etl"].map(|user| ("prod".to_owned(), user.to_owned()));
        let first = shares.take(&one, 2).unwrap();
        let second = shares.take(&one, 2).unwrap();
        assert!(shares.take(&one, 2).is_none());
        let third = shares.take(&other, 2).unwrap();
        assert_eq!((shares.taken(&one), shares.taken(&other)), (2, 1));
        drop(first);
        let again = shares.take(&one, 2).unwrap();
        drop((second, third, again));
        assert!(shares.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_gets_the_next_one() {
        let places = Arc::new(Places::default());
        let held = places.take(HERE, Quota::of(1)).unwrap();
        let waiting = places.wait(THERE, Quota::of(1));
        let freeing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(held);
        };
        let (place, ()) = tokio::join!(waiting, freeing);
        assert!(place.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_an_addresss_own_and_fills_up_again() {
        let rates = Rates::default();
        let allowed = |address| (0..20).filter(|_| rates.allows(address, 10)).count();
        assert_eq!((allowed(HERE), allowed(THERE)), (10, 10));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!((allowed(HERE), allowed(THERE)), (5, 5));
    }
}
