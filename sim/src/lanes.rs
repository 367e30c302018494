//! Operations of a pass on lanes that run side by side: kernels on the multiprocessors of every
//! rank, transfers over its links.
//!
//! A [`Program`] lists the operations of a pass in the order in which they are issued. Two ways to
//! run it: [`events::run`] gives every rank lanes of its own and lets transfers share the links of
//! the machine; [`Program::steps`] does the same for one rank that stands for all, on which every
//! operation takes as long as on the slowest. They agree where nothing contends. What overlaps
//! with what is the program's business ([`compose`]), not theirs.

pub mod backward;
pub mod compose;
pub mod events;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use moecast_profiles::units::Nanos;

/// What runs at one time on a rank, beside the other lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Multiprocessors.
    Compute,
    /// Links inside a node.
    Domain,
    /// Links between nodes.
    Network,
}

impl Lane {
    /// All lanes, in the order of tracks.
    pub const ALL: [Self; 3] = [Self::Compute, Self::Domain, Self::Network];

    /// Name of the track.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Domain => "domain links",
            Self::Network => "network",
        }
    }
}

/// What an operation is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Attention with its projections, and its all-reduce.
    Attention,
    /// The router.
    Gate,
    /// Tokens on their way to their experts.
    Dispatch,
    /// Shared experts.
    Shared,
    /// Routed experts.
    Experts,
    /// Results on their way back.
    Combine,
    /// Feed-forward network of a dense layer.
    Dense,
    /// Output head.
    Head,
    /// Weights of experts on their way to slots that are filled anew.
    Weights,
    /// Sums of gradients of what all ranks hold alike.
    Gradients,
}

impl Kind {
    /// All kinds, in the order of a layer.
    pub const ALL: [Self; 10] = [
        Self::Attention,
        Self::Gate,
        Self::Dispatch,
        Self::Shared,
        Self::Experts,
        Self::Combine,
        Self::Dense,
        Self::Head,
        Self::Weights,
        Self::Gradients,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Gate => "gate",
            Self::Dispatch => "dispatch",
            Self::Shared => "shared experts",
            Self::Experts => "experts",
            Self::Combine => "combine",
            Self::Dense => "dense",
            Self::Head => "head",
            Self::Weights => "weights",
            Self::Gradients => "gradients",
        }
    }
}

/// A transfer that all ranks of a layer take part in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfer {
    /// Nanoseconds that no byte accounts for.
    pub start: f64,
    /// Nanoseconds of its busiest link.
    pub busy: f64,
    /// Links and how long each is busy, as a share of the busiest.
    pub loads: Vec<(u32, f64)>,
    /// The same for the busiest link inside nodes and the busiest between them; 0 where it crosses
    /// none.
    pub classes: [f64; 2],
}

impl Transfer {
    /// Whether it occupies `lane` of every rank.
    #[must_use]
    pub fn crosses(&self, lane: Lane) -> bool {
        match lane {
            Lane::Compute => false,
            Lane::Domain => self.classes[0] > 0.0,
            Lane::Network => self.classes[1] > 0.0,
        }
    }
}

/// What an operation occupies, and for how long.
#[derive(Clone, Debug)]
pub enum Work {
    /// `[R]` nanoseconds of every rank's multiprocessors.
    Compute(Arc<[f64]>),
    /// Links of all ranks.
    Transfer(Arc<Transfer>),
}

impl Work {
    /// Nanoseconds of the slowest rank, alone on the machine.
    #[must_use]
    pub fn alone(&self) -> f64 {
        match self {
            Self::Compute(times) => slowest(times),
            Self::Transfer(transfer) => transfer.start + transfer.busy,
        }
    }
}

fn slowest(times: &[f64]) -> f64 {
    times.iter().copied().fold(0.0, f64::max)
}

/// One operation of a pass.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What it is.
    pub kind: Kind,
    /// Layer of the model, counted from the first.
    pub layer: u16,
    /// Micro-batch.
    pub batch: u8,
    /// Part of the micro-batch.
    pub chunk: u16,
    /// What it occupies.
    pub work: Work,
    /// Operations that must have ended, all of them earlier in the program.
    pub after: Vec<u32>,
}

/// The operations of one pass, in the order in which they are issued: what has been ready as long
/// goes in this order where a lane is wanted twice.
#[derive(Clone, Debug, Default)]
pub struct Program {
    operations: Vec<Operation>,
    ranks: usize,
}

/// When operations ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// From the first start to the last end, nanoseconds.
    pub total: f64,
    /// Start and end of every operation.
    pub spans: Vec<(f64, f64)>,
}

impl Program {
    /// Without operations, on so many ranks.
    #[must_use]
    pub fn new(ranks: usize) -> Self {
        Self { operations: Vec::new(), ranks }
    }

    /// Adds an operation, and gives its number.
    ///
    /// # Panics
    /// When it waits for one that is not before it, or its times are not those of the ranks.
    pub fn add(&mut self, operation: Operation) -> u32 {
        let number = u32::try_from(self.operations.len()).expect("programs are short");
        let earlier = operation.after.iter().all(|before| *before < number);
        assert!(earlier, "operation {number} waits for {:?}", operation.after);
        if let Work::Compute(times) = &operation.work {
            assert_eq!(times.len(), self.ranks, "times of operation {number}: one a rank");
        }
        self.operations.push(operation);
        number
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Ranks.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Nanoseconds that operations of every kind take alone, one after the other.
    #[must_use]
    pub fn alone(&self) -> [f64; Kind::ALL.len()] {
        let mut sums = [0.0; Kind::ALL.len()];
        for operation in &self.operations {
            sums[operation.kind as usize] += operation.work.alone();
        }
        sums
    }

    /// Runs with every operation as long as on its slowest rank, and one set of lanes for all.
    ///
    /// Cost: a few events an operation, whatever the number of ranks.
    #[must_use]
    pub fn steps(&self) -> Schedule {
        let alike = |operation: &Operation| {
            let work = match &operation.work {
                Work::Compute(times) => Work::Compute([slowest(times)].into()),
                Work::Transfer(transfer) => {
                    let classes = (0..).zip(transfer.classes).filter(|(_, share)| *share > 0.0);
                    Work::Transfer(Arc::new(Transfer {
                        loads: classes.collect(),
                        ..Transfer::clone(transfer)
                    }))
                }
            };
            Operation { work, ..operation.clone() }
        };
        let operations = self.operations.iter().map(alike).collect();
        let one = Self { operations, ranks: 1 };
        let classes = 2;
        events::run(&one, classes).schedule
    }

    /// Operations that wait for each.
    fn followers(&self) -> Vec<Vec<u32>> {
        let mut followers = vec![Vec::new(); self.operations.len()];
        for (number, operation) in (0..).zip(&self.operations) {
            for &before in &operation.after {
                followers[before as usize].push(number);
            }
        }
        followers
    }
}

impl Schedule {
    /// The whole, in nanoseconds.
    #[must_use]
    pub fn time(&self) -> Nanos {
        Nanos::ceil_from(self.total)
    }
}
