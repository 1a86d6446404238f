//! The interleaved runner: every contestant in turn, round after round, medians and ratios.
//!
//! The ratio of two contestants is the median of the ratios of each round, which cancels what slows both.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::work::keep_busy;

enum Run<'a> {
    /// Timed as a whole; returns what it did.
    Whole(Box<dyn FnMut() -> u64 + 'a>),
    /// Times itself, because its set-up is no part of the question.
    Part(Box<dyn FnMut() -> f64 + 'a>),
}

impl Run<'_> {
    /// The nanoseconds, and what was done.
    fn go(&mut self) -> (f64, Option<u64>) {
        match self {
            Self::Whole(run) => {
                let start = Instant::now();
                let got = black_box(run());
                (start.elapsed().as_nanos() as f64, Some(got))
            }
            Self::Part(run) => (run(), None),
        }
    }
}

/// One way to do the work of a contest.
pub struct Contestant<'a> {
    name: String,
    run: Run<'a>,
    nanos: Vec<f64>,
}

impl fmt::Debug for Contestant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contestant")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Contestants that do the same work.
#[derive(Debug)]
pub struct Contest<'a> {
    /// Children, items or wakes in one run.
    units: usize,
    contestants: Vec<Contestant<'a>>,
    settle: bool,
}

/// How long a contest takes.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds at least.
    pub rounds: usize,
    /// Goes on with rounds for so long.
    pub time: Duration,
}

impl<'a> Contest<'a> {
    /// A contest whose every run does so many units of work.
    #[must_use]
    pub fn new(units: usize) -> Self {
        Self {
            units,
            contestants: Vec::new(),
            settle: false,
        }
    }

    /// Keeps the thread busy before each run. A thread that has just been idle, as after waiting for
    /// another pool, has its helpers woken on its own core for the next milliseconds.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.settle = true;
        self
    }

    /// Adds a contestant; what it returns is checked to be the same in every run of all.
    #[must_use]
    pub fn add(self, name: impl Into<String>, run: impl FnMut() -> u64 + 'a) -> Self {
        self.push(name.into(), Run::Whole(Box::new(run)))
    }

    /// Adds a contestant that times itself and returns nanoseconds.
    #[must_use]
    pub fn add_part(self, name: impl Into<String>, run: impl FnMut() -> f64 + 'a) -> Self {
        self.push(name.into(), Run::Part(Box::new(run)))
    }

    fn push(mut self, name: String, run: Run<'a>) -> Self {
        self.contestants.push(Contestant {
            name,
            run,
            nanos: Vec::new(),
        });
        self
    }

    /// Runs them all.
    ///
    /// # Panics
    /// If two runs disagree about the result.
    #[must_use]
    pub fn run(mut self, effort: Effort) -> Results {
        let mut expected = None;
        let mut check = |name: &str, got: Option<u64>| {
            let Some(got) = got else { return };
            let expected = *expected.get_or_insert(got);
            assert_eq!(got, expected, "{name} did other work than the first");
        };
        for contestant in &mut self.contestants {
            for _ in 0..2 {
                check(&contestant.name, contestant.run.go().1);
            }
        }
        let start = Instant::now();
        let mut round = 0;
        let most = effort.rounds * 20;
        while round < effort.rounds || (start.elapsed() < effort.time && round < most) {
            let count = self.contestants.len();
            for turn in 0..count {
                // Everybody is first, and behind everybody, in some rounds.
                let contestant = &mut self.contestants[(turn + round) % count];
                if self.settle {
                    keep_busy(Duration::from_millis(1));
                    check(&contestant.name, contestant.run.go().1);
                }
                let (nanos, got) = contestant.run.go();
                check(&contestant.name, got);
                contestant.nanos.push(nanos / self.units as f64);
            }
            round += 1;
        }
        Results {
            rounds: round,
            rows: self
                .contestants
                .into_iter()
                .map(|contestant| Row {
                    name: contestant.name,
                    nanos: contestant.nanos,
                })
                .collect(),
        }
    }
}

/// What a contestant needed, in nanoseconds a unit, round by round.
#[derive(Clone, Debug)]
pub struct Row {
    /// The contestant.
    pub name: String,
    nanos: Vec<f64>,
}

impl Row {
    /// The median of all rounds, in nanoseconds a unit.
    #[must_use]
    pub fn median(&self) -> f64 {
        quantile(self.nanos.clone(), 0.5)
    }

    /// The fastest round.
    #[must_use]
    pub fn fastest(&self) -> f64 {
        quantile(self.nanos.clone(), 0.0)
    }
}

/// All rows of a contest.
#[derive(Clone, Debug)]
pub struct Results {
    /// How many rounds were run.
    pub rounds: usize,
    /// The rows, in the order of `add`.
    pub rows: Vec<Row>,
}

/// A ratio with its quartiles.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// A quarter of the rounds was below this.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// A quarter was above this.
    pub high: f64,
}

impl Results {
    /// # Panics
    /// If nobody has this name.
    #[must_use]
    pub fn row(&self, name: &str) -> &Row {
        self.rows
            .iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("no contestant is called {name}"))
    }

    /// How `of` compares with `to`, round by round, multiplied by `scale`.
    #[must_use]
    pub fn ratio(&self, of: &str, to: &str, scale: f64) -> Ratio {
        let pairs = self.row(of).nanos.iter().zip(&self.row(to).nanos);
        let ratios: Vec<f64> = pairs.map(|(of, to)| scale * of / to).collect();
        Ratio {
            low: quantile(ratios.clone(), 0.25),
            median: quantile(ratios.clone(), 0.5),
            high: quantile(ratios, 0.75),
        }
    }
}

fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}
