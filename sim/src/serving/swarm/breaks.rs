//! Random faults of a random service.

use moecast_profiles::units::Nanos;

use super::dice::Dice;
use super::scenario::PoolPlan;
use crate::serving::faults::{Fate, FaultFile, FaultKind};

/// A fault of one of `pools`, at a time when there may be work.
pub(super) fn draw(dice: &mut Dice, pools: &[PoolPlan]) -> FaultFile {
    let pool = &pools[dice.within(0..=pools.len() as u32 - 1) as usize];
    let what = dice.among(&[
        FaultKind::RankLost,
        FaultKind::RankLost,
        FaultKind::NodeLost,
        FaultKind::RankSlowed,
        FaultKind::LinkDegraded,
    ]);
    let at = u64::from(dice.skewed(20_000_000));
    let lasts = u64::from(dice.skewed(20_000_000));
    let rank = dice.within(0..=pool.layout.ranks() - 1) as u16;
    let factor = dice.among(&[1.0, 1.5, 10.0]);
    let ranked = matches!(what, FaultKind::RankLost | FaultKind::RankSlowed);
    let slower = matches!(what, FaultKind::RankSlowed | FaultKind::LinkDegraded);
    FaultFile {
        at: Nanos(at),
        until: dice.chance(0.7).then_some(Nanos(at + lasts)),
        what,
        pool: Some(pool.role),
        replica: dice.within(0..=u32::from(pool.replicas) - 1) as u16,
        rank: ranked.then_some(rank),
        node: (what == FaultKind::NodeLost).then_some(0),
        factor: slower.then_some(factor),
        requests: if dice.chance(0.7) { Fate::Retry } else { Fate::Lost },
    }
}
