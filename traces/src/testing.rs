//! Small traces with everything that a recording may know, for the tests of this crate.

use proptest::prelude::*;

use crate::{Events, Header, NO_EXPERT, Phase, RoutingTrace, TokenRow, TraceBuilder, f16};

/// One token of [`traces`]: step gap, request, whether prefill, domain shift, picks per layer.
type Token = (u32, u32, bool, u16, [u16; 6]);

/// Two experts of five in three layers, or one, or none.
fn picks() -> impl Strategy<Value = [u16; 6]> {
    let layer = (0_u16..5, 1_u16..5, 0_u8..8).prop_map(|(first, step, holes)| match holes {
        0 => [NO_EXPERT, NO_EXPERT],
        1 => [first, NO_EXPERT],
        _ => [first, (first + step) % 5],
    });
    [layer.clone(), layer.clone(), layer].prop_map(|[a, b, c]| [a[0], a[1], b[0], b[1], c[0], c[1]])
}

/// Random token recordings of five experts, layers 1, 2 and 4, top-2, a few requests that
/// interleave, both phases; some with gate weights, some with domains, one a request.
pub(crate) fn traces() -> impl Strategy<Value = RoutingTrace> {
    let token = (0_u32..3, 0_u32..4, any::<bool>(), 0_u16..3, picks());
    (prop::collection::vec(token, 1..30), any::<bool>(), any::<bool>())
        .prop_map(|(tokens, weights, domains)| build(&tokens, weights, domains))
}

fn build(tokens: &[Token], weighted: bool, named: bool) -> RoutingTrace {
    let mut builder = TraceBuilder::new(Header::new("test", "tiny", 5, 2, vec![1, 2, 4]));
    let (mut step, mut positions) = (0, [0_u32; 4]);
    let (mut domains, first) = (Vec::new(), tokens[0].3);
    for (gap, request, prefill, _, experts) in tokens {
        step += gap;
        let position = &mut positions[*request as usize];
        let weights: Vec<f32> = (1_u16..=6).map(|place| f32::from(place) / 8.0).collect();
        builder.push_token(TokenRow {
            request: *request,
            position: *position,
            step,
            phase: if *prefill { Phase::Prefill } else { Phase::Decode },
            experts,
            weights: weighted.then_some(&weights),
        });
        *position += 1;
        domains.push((u16::try_from(*request).unwrap() + first) % 3);
    }
    let trace = builder.finish("test").unwrap();
    if named { with_domains(&trace, &["code", "law", "prose"], &domains) } else { trace }
}

/// `trace` with a domain for every token.
pub(crate) fn with_domains(trace: &RoutingTrace, names: &[&str], domains: &[u16]) -> RoutingTrace {
    let mut header = trace.header().clone();
    header.domains = names.iter().map(|&name| name.to_owned()).collect();
    let mut columns = trace.tokens().unwrap().clone();
    columns.domain = Some(domains.to_vec().into());
    RoutingTrace::new(header, Events::Tokens(columns), "test").unwrap()
}

/// A recording of the given counts `[S, 2, 2]`, layers 3 and 5.
pub(crate) fn counts(steps: &[[u32; 4]]) -> RoutingTrace {
    let mut builder = TraceBuilder::new(Header::new("test", "tiny", 2, 1, vec![3, 5]));
    for step in steps {
        builder.push_counts(step);
    }
    builder.finish("test").unwrap()
}

/// What a token is, but for its request and its step: position, phase, domain, picks, weights.
type Content = (u32, u8, String, Vec<u16>, Vec<f16>);

pub(crate) fn contents(trace: &RoutingTrace) -> Vec<Content> {
    let columns = trace.tokens().unwrap();
    let width = trace.header().moe_layers() * usize::from(trace.header().top_k);
    let row = |row: usize| {
        let wide = row * width..(row + 1) * width;
        let domain = columns.domain.as_ref().map(|domain| usize::from(domain[row]));
        (
            columns.position[row],
            columns.phase[row],
            domain.map(|index| trace.header().domains[index].clone()).unwrap_or_default(),
            columns.experts[wide.clone()].to_vec(),
            columns.weights.as_ref().map(|weights| weights[wide].to_vec()).unwrap_or_default(),
        )
    };
    (0..columns.step.len()).map(row).collect()
}
