//! A trace that was spilled is the trace that was held, in memory and in its bytes.

use proptest::prelude::*;

use super::*;

fn row<'a>(request: u32, step: u32, experts: &'a [u16]) -> TokenRow<'a> {
    TokenRow { request, position: 0, step, phase: Phase::Decode, experts, weights: None }
}

/// Two layers of 4 experts, of which 2 are chosen.
fn header() -> Header {
    Header::new("test", "tiny", 4, 2, vec![1, 2])
}

/// Finishes the rows that `push` pushes in memory and with a budget, both ways, and compares all.
fn same_everywhere(header: &Header, budget_bytes: usize, push: &dyn Fn(&mut TraceBuilder)) {
    let folder = tempfile::tempdir().unwrap();
    let spill = Spill { folder: folder.path().to_owned(), budget_bytes };
    let built = |spill| {
        let mut builder = TraceBuilder::spilling(header.clone(), spill);
        push(&mut builder);
        builder
    };
    let trace = match built(None).finish("a") {
        Ok(trace) => trace,
        Err(error) => {
            let spilled = built(Some(&spill)).write_to("a", &mut Vec::new());
            assert_eq!(spilled.unwrap_err().to_string(), error.to_string());
            return;
        }
    };
    assert_eq!(built(Some(&spill)).finish("a").unwrap(), trace);
    let mut expected = Vec::new();
    format::write(&trace, "a", &mut expected).unwrap();
    for spill in [None, Some(&spill)] {
        let mut bytes = Vec::new();
        let written = built(spill).write_to("a", &mut bytes).unwrap();
        assert!(bytes == expected, "the bytes differ");
        assert_eq!(written.header, *trace.header());
        assert_eq!(written.tokens, trace.token_count());
        assert_eq!(written.requests, trace.request_count());
        assert_eq!(written.steps, trace.steps().len());
    }
    let columns: usize = expected.len() - usize::from(expected[0]) - 256 * usize::from(expected[1]);
    assert_eq!(built(None).bytes(), columns as u64 - 8);
}

proptest! {
    #[test]
    fn spilled_tokens_are_the_tokens(
        rows in prop::collection::vec((0..5_u32, 0..2_u32, 0..4_u16, 0..5_u16), 0..40),
        weighted: bool,
        budget in 0..200_usize,
    ) {
        same_everywhere(&header(), budget, &|builder| {
            let mut step = 0;
            for &(request, next, first, second) in &rows {
                step += next;
                let second = if second == 4 { NO_EXPERT } else { second };
                let experts = [first, NO_EXPERT, first, second];
                let weights = [0.5, 0.0, 0.25, 0.125];
                let row = row(request * 1_000_000_000, step, &experts);
                builder.push_token(TokenRow { weights: weighted.then_some(&weights), ..row });
            }
        });
    }

    #[test]
    fn spilled_counts_are_the_counts(
        counts in prop::collection::vec(prop_oneof![0..9_u32, Just(u32::MAX)], 0..40),
        piece in 1..9_usize,
        budget in 0..100_usize,
    ) {
        let whole = &counts[..counts.len() / 8 * 8];
        same_everywhere(&header(), budget, &|builder| {
            for piece in whole.chunks(piece) {
                builder.push_counts(piece);
            }
        });
    }
}

/// The first wrong row is told as the check of a file tells it, and nothing behind it is kept.
#[test]
fn a_wrong_row_is_told_at_the_end() {
    let cases: [(&[TokenRow<'_>], &str); 4] = [
        (
            &[row(0, 3, &[0, 1, 2, 3]), row(0, 2, &[0, 1, 2, 3])],
            "a: tensor `step`, row 1: step 2 after 3; expected steps that never decrease",
        ),
        (
            &[row(0, 0, &[0, 1, 2, 4]), row(0, 0, &[9, 9, 9, 9])],
            "a: tensor `experts`, token 0, layer 2: expert 4; expected an id below 4",
        ),
        (
            &[row(0, 0, &[0, 1, 2, 3]), row(0, 0, &[1, 1, 2, 3])],
            "a: tensor `experts`, token 1, layer 1: expert 1 twice; expected distinct experts",
        ),
        (
            &[
                TokenRow { weights: Some(&[0.5; 4]), ..row(0, 0, &[0, 1, 2, 3]) },
                row(0, 0, &[0, 1, 2, 3]),
            ],
            "a: tensor `weights`: 4 values; expected 8 values",
        ),
    ];
    for (rows, expected) in cases {
        let push =
            |builder: &mut TraceBuilder| rows.iter().for_each(|&row| builder.push_token(row));
        let mut builder = TraceBuilder::new(header());
        push(&mut builder);
        assert_eq!(builder.finish("a").unwrap_err().to_string(), expected);
        same_everywhere(&header(), 0, &push);
    }
    let mut builder = TraceBuilder::new(header());
    builder.push_counts(&[1; 9]);
    let error = builder.finish("a").unwrap_err().to_string();
    assert_eq!(error, "a: tensor `counts`: 9 values; expected 8 values");
}

/// A header that is no header is told, not divided by.
#[test]
fn a_wrong_header_is_told_first() {
    for (experts, top_k, layers) in [(0, 1, vec![0]), (4, 0, vec![0]), (4, 1, vec![])] {
        let mut builder = TraceBuilder::new(Header::new("test", "", experts, top_k, layers));
        builder.push_counts(&[1; 4]);
        let row = builder.empty_row();
        builder.push_token(TokenRow { experts: &row, ..self::row(0, 0, &[]) });
        assert!(builder.finish("a").unwrap_err().to_string().starts_with("a: header key"));
    }
}

#[test]
fn a_full_disk_is_told() {
    let spill = Spill { folder: "no/such/folder".into(), budget_bytes: 8 };
    let mut builder = TraceBuilder::spilling(header(), Some(&spill));
    (0..9).for_each(|step| builder.push_token(row(0, step, &[0, 1, 2, 3])));
    let error = builder.finish("a").unwrap_err().to_string();
    assert!(error.starts_with("no/such/folder: "), "{error}");
}

#[test]
fn requests_are_counted_once_wherever_their_numbers_lie() {
    let mut pile = Pile::default();
    let ids = [7, 0, u32::MAX, 7, 1 << 29, (1 << 29) - 1, 1 << 31, u32::MAX, 0];
    pile.extend_from_slice(&ids);
    assert_eq!(distinct(&pile, u32::MAX).unwrap(), 6);
    assert_eq!(distinct(&Pile::default(), 0).unwrap(), 0);
}
