//! The backward pass of training, as a mirror of the forward one.
//!
//! Operations follow in the reverse order, each after those that followed it: kernels take twice
//! as long, for gradients of inputs and of weights; gradients of results travel to the experts as
//! tokens did, and gradients of tokens come back as results did. Weights that were gathered are
//! summed over the same links. Recomputed activations and the optimiser are not counted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, Program, Transfer, Work};

/// Kernels of a backward pass over those of the forward one: two products instead of one.
const KERNELS: f64 = 2.0;

/// When gradients of what all ranks hold alike are summed over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gradients {
    /// Never.
    #[default]
    None,
    /// After the whole pass.
    After,
    /// A layer's as soon as they are known, beside the layers before it.
    Beside,
}

/// `forward` and its backward pass; `sums` are the sums of gradients of its layers.
#[must_use]
pub fn backward(forward: &Program, sums: &[Arc<Transfer>], when: Gradients) -> Program {
    let mut program = forward.clone();
    let followers = forward.followers();
    let other = exchanges(forward);
    let mut mirrors = vec![0_u32; followers.len()];
    // Mirrors of the layer that is under way, and sums that wait for the end.
    let mut layer: (u16, Vec<u32>) = (u16::MAX, Vec::new());
    let sum = |program: &mut Program, number: u16, after: &[u32]| {
        let Some(transfer) = sums.get(usize::from(number)) else { return };
        let (work, after) = (Work::Transfer(Arc::clone(transfer)), after.to_vec());
        let kind = Kind::Gradients;
        program.add(Operation { kind, layer: number, batch: 0, chunk: 0, work, after });
    };
    for number in (0..followers.len()).rev() {
        let own = &forward.operations()[number];
        if when == Gradients::Beside && own.layer != layer.0 {
            sum(&mut program, layer.0, &layer.1);
        }
        if own.layer != layer.0 {
            layer = (own.layer, Vec::new());
        }
        let mut after: Vec<u32> =
            followers[number].iter().map(|after| mirrors[*after as usize]).collect();
        if after.is_empty() {
            after.push(number as u32);
        }
        let (kind, work) = match &own.work {
            Work::Compute(times) => {
                let times = times.iter().map(|time| time * KERNELS);
                (own.kind, Work::Compute(times.collect()))
            }
            Work::Transfer(_) => {
                let kind = match own.kind {
                    Kind::Dispatch => Kind::Combine,
                    Kind::Combine => Kind::Dispatch,
                    kind => kind,
                };
                (kind, forward.operations()[other[number]].work.clone())
            }
        };
        mirrors[number] = program.add(Operation { kind, work, after, ..own.clone() });
        layer.1.push(mirrors[number]);
    }
    match when {
        Gradients::None => {}
        Gradients::Beside => sum(&mut program, layer.0, &layer.1),
        Gradients::After => {
            let first = |number: &usize| forward.operations()[*number].after.is_empty();
            let ends: Vec<u32> =
                (0..mirrors.len()).filter(first).map(|number| mirrors[number]).collect();
            (0..sums.len() as u16).rev().for_each(|number| sum(&mut program, number, &ends));
        }
    }
    program
}

/// For every dispatch its combine, and the other way round; for all else itself.
fn exchanges(forward: &Program) -> Vec<usize> {
    let mut other: Vec<usize> = (0..forward.operations().len()).collect();
    let of = |kind| {
        let all = forward.operations().iter().enumerate().filter(move |(_, own)| own.kind == kind);
        let mut all: Vec<_> =
            all.map(|(number, own)| (own.layer, own.batch, own.chunk, number)).collect();
        all.sort_unstable();
        all
    };
    for ((.., there), (.., back)) in of(Kind::Dispatch).into_iter().zip(of(Kind::Combine)) {
        other[there] = back;
        other[back] = there;
    }
    other
}
