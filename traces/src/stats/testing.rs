//! Small traces for the tests of the statistics.

use proptest::prelude::*;

use crate::{Header, NO_EXPERT, Phase, RoutingTrace, TokenRow, TraceBuilder};

/// A trace of two layers, top-2: one row `[2, 2]` and one request per token.
pub(super) fn trace(experts: u16, requests: &[u32], rows: &[[u16; 4]]) -> RoutingTrace {
    let rows: Vec<Vec<u16>> = rows.iter().map(|row| row.to_vec()).collect();
    build(experts, 2, requests, &rows)
}

/// A trace of one request; rows are `[layers, top_k]`.
pub(super) fn wide_trace(experts: u16, top_k: u16, rows: &[Vec<u16>]) -> RoutingTrace {
    build(experts, top_k, &vec![0; rows.len()], rows)
}

fn build(experts: u16, top_k: u16, requests: &[u32], rows: &[Vec<u16>]) -> RoutingTrace {
    let layers = u16::try_from(rows[0].len()).unwrap() / top_k;
    let header = Header::new("test", "tiny", experts, top_k, (0..layers).collect());
    let mut builder = TraceBuilder::new(header);
    for ((step, &request), experts) in (0_u32..).zip(requests).zip(rows) {
        let (position, phase) = (step, Phase::Decode);
        builder.push_token(TokenRow { request, position, step, phase, experts, weights: None });
    }
    builder.finish("test").unwrap()
}

/// Two experts of five, or one, or none.
fn picks() -> impl Strategy<Value = [u16; 2]> {
    (0_u16..5, 1_u16..5, 0_u8..10).prop_map(|(first, step, holes)| match holes {
        0 => [NO_EXPERT, NO_EXPERT],
        1 => [first, NO_EXPERT],
        2 => [NO_EXPERT, first],
        _ => [first, (first + step) % 5],
    })
}

/// Random traces of five experts, two layers, top-2 and a few requests that interleave.
pub(super) fn traces() -> impl Strategy<Value = RoutingTrace> {
    let row = (0_u32..3, picks(), picks()).prop_map(|(request, a, b)| (request, [a, b].concat()));
    prop::collection::vec(row, 1..40).prop_map(|rows| {
        let (requests, rows): (Vec<u32>, Vec<Vec<u16>>) = rows.into_iter().unzip();
        build(5, 2, &requests, &rows)
    })
}

/// The same routing under other names: in every layer, expert e is called (e + shift) mod E.
pub(super) fn renamed(trace: &RoutingTrace, shift: u16) -> RoutingTrace {
    let (header, columns) = (trace.header(), trace.tokens().unwrap());
    let width = header.moe_layers() * usize::from(header.top_k);
    let rename = |&id: &u16| if id == NO_EXPERT { id } else { (id + shift) % header.experts };
    let experts: Vec<u16> = columns.experts.iter().map(rename).collect();
    let rows: Vec<Vec<u16>> = experts.chunks_exact(width).map(<[u16]>::to_vec).collect();
    build(header.experts, header.top_k, &columns.request, &rows)
}
