//! The queue at a gate: first in, first out, and whoever has a ticket finds its place at once. Not a lock: a gate keeps
//! it behind one.

use std::collections::VecDeque;

/// What waits in line. Each step costs the same however many wait, but for places that are empty, of which each is
/// passed once.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// The ticket of the first place.
    first: u64,
    /// A place is empty if what waited there has left. The first one never is.
    places: VecDeque<Option<T>>,
    /// How many places were looked at.
    #[cfg(test)]
    looked: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            first: 0,
            places: VecDeque::new(),
            #[cfg(test)]
            looked: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Puts `one` behind all others; the answer is its ticket.
    pub(crate) fn push(&mut self, one: T) -> u64 {
        let ticket = self.first + self.places.len() as u64;
        self.places.push_back(Some(one));
        ticket
    }

    /// What waits with this ticket, if it does still.
    pub(crate) fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        self.place(ticket)?.as_mut()
    }

    /// Takes what waits with this ticket, if it does still.
    pub(crate) fn remove(&mut self, ticket: u64) -> Option<T> {
        let gone = self.place(ticket)?.take();
        self.trim();
        gone
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let first = self.places.front_mut()?.take();
        self.trim();
        first
    }

    /// Takes all, in their order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.first += self.places.len() as u64;
        std::mem::take(&mut self.places).into_iter().flatten()
    }

    fn place(&mut self, ticket: u64) -> Option<&mut Option<T>> {
        #[cfg(test)]
        {
            self.looked += 1;
        }
        // Who has a ticket from before the first place was called, or has left.
        let at = ticket.checked_sub(self.first)?;
        self.places.get_mut(usize::try_from(at).ok()?)
    }

    /// Drops empty places at the front.
    fn trim(&mut self) {
        while let Some(None) = self.places.front() {
            #[cfg(test)]
            {
                self.looked += 1;
            }
            self.places.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::Queue;

    /// Numbers that look random.
    fn mix(n: u64) -> u64 {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    #[test]
    fn queue_does_as_a_list_of_who_waits() {
        let mut queue = Queue::new();
        let mut list: Vec<(u64, u64)> = Vec::new();
        let mut tickets = Vec::new();
        for step in 1..20_000 {
            let number = mix(step);
            let ticket = tickets.get(number as usize % tickets.len().max(1)).copied();
            match (number >> 32) % 6 {
                0 | 1 => {
                    let ticket = queue.push(step);
                    list.push((ticket, step));
                    tickets.push(ticket);
                }
                2 => {
                    let first = (!list.is_empty()).then(|| list.remove(0).1);
                    assert_eq!(queue.pop(), first);
                }
                3 | 4 => {
                    let Some(ticket) = ticket else { continue };
                    let at = list.iter().position(|one| one.0 == ticket);
                    assert_eq!(queue.remove(ticket), at.map(|at| list.remove(at).1));
                }
                _ if number % 64 == 0 => {
                    let all: Vec<_> = queue.take_all().collect();
                    let listed: Vec<_> = list.drain(..).map(|one| one.1).collect();
                    assert_eq!(all, listed);
                }
                _ => {
                    let Some(ticket) = ticket else { continue };
                    let listed = list.iter_mut().find(|one| one.0 == ticket);
                    assert_eq!(queue.get_mut(ticket), listed.map(|one| &mut one.1));
                }
            }
            assert_eq!(queue.is_empty(), list.is_empty());
        }
        assert!(tickets.len() > 1000);
    }

    #[test]
    fn who_comes_waits_and_leaves_looks_at_as_many_places_however_many_wait() {
        const STEPS: u64 = 1000;
        let looked = |waiting: u64| {
            let mut queue = Queue::new();
            let mut tickets: VecDeque<u64> = (0..waiting).map(|n| queue.push(n)).collect();
            for n in 0..STEPS {
                // One is called and looks for its place, one in the middle goes, one at the end stays; two come back.
                let called = tickets.pop_front().expect("some wait");
                assert!(queue.pop().is_some());
                assert_eq!(queue.remove(called), None);
                let left = tickets.remove(tickets.len() / 2).expect("some wait");
                assert!(queue.remove(left).is_some());
                let last = tickets.back().expect("some wait");
                assert!(queue.get_mut(*last).is_some());
                tickets.extend([queue.push(n), queue.push(n)]);
            }
            assert!(queue.places.len() as u64 <= 2 * waiting);
            queue.looked
        };
        for waiting in [10, 1000, 60_000] {
            let looked = looked(waiting);
            assert!(looked <= 6 * STEPS, "{waiting} wait: {looked} places");
        }
    }
}
