//! What all rules share: picks come token by token, and a knob is a number with a default.

use super::{Pick, View};

/// Applies `change` to the picks of each token, in order.
pub(super) fn each(picks: &mut Vec<Pick>, mut change: impl FnMut(&mut Vec<Pick>)) {
    let before = std::mem::take(picks);
    let mut token = Vec::new();
    for chosen in before.chunk_by(|a, b| a.token == b.token) {
        token.clear();
        token.extend_from_slice(chosen);
        change(&mut token);
        picks.extend_from_slice(&token);
    }
}

/// Keeps the picks that `keep` allows; the first of all if it allows none.
pub(super) fn retain(token: &mut Vec<Pick>, keep: impl FnMut(&Pick) -> bool) {
    let first = token.first().copied();
    token.retain(keep);
    if token.is_empty() {
        token.extend(first);
    }
}

/// Whether what `pick` asks for is in GPU memory.
pub(super) fn cached(view: &View<'_>, pick: &Pick) -> bool {
    (view.cached)(pick.expert, pick.version)
}

/// The most popular expert in GPU memory, in the version of `pick`, that the token has not chosen.
pub(super) fn stand_in(view: &View<'_>, token: &[Pick], pick: &Pick) -> Option<u16> {
    let free = |expert: u16| token.iter().all(|other| other.expert != expert);
    let fits = |&&expert: &&u16| free(expert) && (view.cached)(expert, pick.version);
    view.popular.iter().find(fits).copied()
}

/// The knob at `index`; `default` where it was not given or is not a number.
pub(super) fn knob(knobs: &[f64], index: usize, default: f64) -> f64 {
    knobs.get(index).copied().filter(|knob| !knob.is_nan()).unwrap_or(default)
}

/// The same, for a rank.
pub(super) fn rank(knobs: &[f64], index: usize, default: u16) -> u16 {
    // Out of range, the cast ends at the nearest rank.
    knob(knobs, index, f64::from(default)) as u16
}

/// Missing experts beyond a token's first `first` give way to the most popular one in memory,
/// where `willing`, asked for each of them, says so.
pub(super) fn give_way(
    view: &View<'_>,
    picks: &mut Vec<Pick>,
    first: u16,
    mut willing: impl FnMut() -> bool,
) {
    each(picks, |token| {
        for index in 0..token.len() {
            let pick = token[index];
            if pick.rank < first || cached(view, &pick) || !willing() {
                continue;
            }
            if let Some(other) = stand_in(view, token, &pick) {
                token[index].expert = other;
            }
        }
    });
}
