//! What the planner may see and what it is judged on. The two never share a request.

use moecast_profiles::seed::Seed;
use rand::seq::SliceRandom;

use crate::error::{Error, Result};
use crate::trace::RoutingTrace;

/// The two parts of a recording.
#[derive(Clone, Debug)]
pub struct Split {
    /// What the planner sees.
    pub train: RoutingTrace,
    /// What it is judged on.
    pub heldout: RoutingTrace,
    /// How the parts were separated, in words.
    pub how: String,
}

/// Keeps about the share `heldout` of the recording from the planner.
///
/// With two or more requests whole requests are drawn at random from the stream `split` of
/// `seed`; a recording of one request, or of counts, is cut in time: the last steps are held out.
///
/// # Errors
/// When the share is not between 0 and 1, or the recording is too short to be split.
pub fn split(trace: &RoutingTrace, heldout: f64, seed: Seed, path: &str) -> Result<Split> {
    if !(heldout > 0.0 && heldout < 1.0) {
        let expected = "a share above 0 and below 1";
        return Err(Error::invalid(path, "held-out share", heldout.to_string(), expected));
    }
    match trace.request_count() {
        Some(requests) if requests >= 2 => Ok(by_request(trace, heldout, seed)),
        _ => by_time(trace, heldout, path),
    }
}

/// How many of `count` are held out: at least one, and at least one is left.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count"
)]
fn share_of(count: usize, heldout: f64) -> usize {
    ((count as f64 * heldout).round() as usize).clamp(1, count - 1)
}

fn by_request(trace: &RoutingTrace, heldout: f64, seed: Seed) -> Split {
    let columns = trace.tokens().expect("requests are known");
    let mut requests = columns.request.to_vec();
    requests.sort_unstable();
    requests.dedup();
    let count = share_of(requests.len(), heldout);
    let mut drawn = requests.clone();
    drawn.shuffle(&mut seed.stream("split"));
    drawn.truncate(count);
    drawn.sort_unstable();
    let is_heldout = |row: usize| drawn.binary_search(&columns.request[row]).is_ok();
    Split {
        train: trace.select_rows(|row| !is_heldout(row)),
        heldout: trace.select_rows(is_heldout),
        how: format!("{count} of {} requests, drawn at random, are held out", requests.len()),
    }
}

fn by_time(trace: &RoutingTrace, heldout: f64, path: &str) -> Result<Split> {
    let steps = trace.steps().len();
    if steps < 2 {
        let found = format!("{steps} step");
        let expected = "at least two steps to split, or --heldout 0 to plan on everything";
        return Err(Error::invalid(path, "recording", found, expected));
    }
    let count = share_of(steps, heldout);
    Ok(Split {
        train: trace.slice_steps(0..steps - count),
        heldout: trace.slice_steps(steps - count..steps),
        how: format!("the last {count} of {steps} steps are held out (requests are not known)"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Header, Phase, TokenRow, TraceBuilder};

    fn trace(requests: &[u32]) -> RoutingTrace {
        let mut builder = TraceBuilder::new(Header::new("test", "tiny", 4, 1, vec![0]));
        for (step, &request) in (0_u32..).zip(requests) {
            let phase = Phase::Decode;
            let experts = &[u16::try_from(request % 4).unwrap()];
            builder.push_token(TokenRow {
                request,
                position: step,
                step,
                phase,
                experts,
                weights: None,
            });
        }
        builder.finish("test").unwrap()
    }

    proptest! {
        #[test]
        fn parts_share_no_request_and_lose_no_token(
            requests in prop::collection::vec(0_u32..9, 2..60),
            share in 0.01_f64..0.99,
            seed: u64,
        ) {
            let whole = trace(&requests);
            let parts = split(&whole, share, Seed(seed), "test").unwrap();
            let rows = |part: &RoutingTrace| part.tokens().unwrap().request.to_vec();
            let (train, heldout) = (rows(&parts.train), rows(&parts.heldout));
            prop_assert_eq!(train.len() + heldout.len(), requests.len());
            prop_assert!(!train.is_empty() && !heldout.is_empty());
            if whole.request_count().unwrap() > 1 {
                prop_assert!(train.iter().all(|request| !heldout.contains(request)));
            }
        }
    }

    #[test]
    fn one_request_is_cut_in_time() {
        let parts = split(&trace(&[7; 10]), 0.3, Seed(0), "test").unwrap();
        assert_eq!(parts.train.steps().len(), 7);
        assert_eq!(parts.heldout.steps()[0].step, 7);
        assert!(parts.how.starts_with("the last 3 of 10 steps"), "{}", parts.how);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(split(&trace(&[0, 1]), 0.0, Seed(0), "test").is_err());
        assert!(split(&trace(&[0, 1]), f64::NAN, Seed(0), "test").is_err());
        assert!(split(&trace(&[0]), 0.5, Seed(0), "test").is_err());
    }
}
