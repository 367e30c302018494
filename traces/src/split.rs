//! What the planner may see and what it is judged on. The two never share a request.

use std::collections::{HashMap, HashSet};

use moecast_profiles::registry::unknown;
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

/// What is kept together when a recording is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Requests, drawn at random.
    Request,
    /// Domains: those named, or drawn at random where none is named.
    Domain(Vec<String>),
    /// The last requests to start; the last steps where requests are not known.
    Time,
}

impl By {
    /// Requests where `trace` knows at least two, time where it does not.
    #[must_use]
    pub fn default_for(trace: &RoutingTrace) -> Self {
        if knows_requests(trace) { Self::Request } else { Self::Time }
    }
}

/// Keeps about the share `heldout` of the recording from the planner.
///
/// With two or more requests whole requests are drawn at random from the stream `split` of
/// `seed`; a recording of one request, or of counts, is cut in time: the last steps are held out.
///
/// # Errors
/// When the share is not between 0 and 1, or the recording is too short to be split.
pub fn split(trace: &RoutingTrace, heldout: f64, seed: Seed, path: &str) -> Result<Split> {
    check_share(heldout, path)?;
    if knows_requests(trace) {
        Ok(by_request(trace, heldout, seed))
    } else {
        by_time(trace, heldout, path)
    }
}

/// Splits as `by` says; a remark in the header of each part says how it was made. Where domains
/// are named, they are held out, whatever their share.
///
/// # Errors
/// When the share is not between 0 and 1, the recording does not know what it is to be split by,
/// a domain is unknown, or one part would be empty or share a request with the other.
pub fn split_by(
    trace: &RoutingTrace,
    by: &By,
    heldout: f64,
    seed: Seed,
    path: &str,
) -> Result<Split> {
    check_share(heldout, path)?;
    let Split { train, heldout, how } = match by {
        By::Request if knows_requests(trace) => by_request(trace, heldout, seed),
        By::Request => {
            let expected = "at least two requests, or a split by time";
            return Err(Error::invalid(path, "requests", "fewer than two are known", expected));
        }
        By::Domain(names) => by_domain(trace, names, heldout, seed, path)?,
        By::Time if knows_requests(trace) => by_start(trace, heldout),
        By::Time => by_time(trace, heldout, path)?,
    };
    let seed = seed.0;
    let train = remarked(&train, format!("training part of a split: {how} (seed {seed})"), path)?;
    let heldout =
        remarked(&heldout, format!("held-out part of a split: {how} (seed {seed})"), path)?;
    Ok(Split { train, heldout, how })
}

fn remarked(part: &RoutingTrace, remark: String, path: &str) -> Result<RoutingTrace> {
    let mut header = part.header().clone();
    header.remarks.push(remark);
    RoutingTrace::new(header, part.events().clone(), path)
}

fn knows_requests(trace: &RoutingTrace) -> bool {
    trace.request_count().is_some_and(|requests| requests >= 2)
}

fn check_share(heldout: f64, path: &str) -> Result<()> {
    if heldout > 0.0 && heldout < 1.0 {
        return Ok(());
    }
    let expected = "a share above 0 and below 1";
    Err(Error::invalid(path, "held-out share", heldout.to_string(), expected))
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

/// The last requests to start are held out, so that nothing that came later tells of what came
/// before, but for the tokens of requests that overlap.
fn by_start(trace: &RoutingTrace, heldout: f64) -> Split {
    let columns = trace.tokens().expect("requests are known");
    let mut seen = HashSet::new();
    let mut requests: Vec<u32> =
        columns.request.iter().copied().filter(|&request| seen.insert(request)).collect();
    let (all, count) = (requests.len(), share_of(requests.len(), heldout));
    let mut last = requests.split_off(all - count);
    last.sort_unstable();
    let is_heldout = |row: usize| last.binary_search(&columns.request[row]).is_ok();
    Split {
        train: trace.select_rows(|row| !is_heldout(row)),
        heldout: trace.select_rows(is_heldout),
        how: format!("the last {count} of {all} requests to start are held out"),
    }
}

fn by_domain(
    trace: &RoutingTrace,
    names: &[String],
    heldout: f64,
    seed: Seed,
    path: &str,
) -> Result<Split> {
    let columns = trace.tokens();
    let Some((columns, domain)) = columns.and_then(|c| Some((c, c.domain.as_ref()?))) else {
        let expected = "a recording that names the domain of every token";
        return Err(Error::invalid(path, "domains", "none", expected));
    };
    let all = &trace.header().domains;
    let mut held = Vec::new();
    for name in names {
        held.push(domain_index(all, name, path)?);
    }
    let mut how = format!("held out by name: {}", names.join(", "));
    if names.is_empty() {
        held = domain.to_vec();
        held.sort_unstable();
        held.dedup();
        let present = held.len();
        if present < 2 {
            let found = format!("{present} domain");
            return Err(Error::invalid(path, "domains", found, "at least two to split by"));
        }
        held.shuffle(&mut seed.stream("split"));
        held.truncate(share_of(present, heldout));
        held.sort_unstable();
        let drawn: Vec<&str> = held.iter().map(|&index| all[usize::from(index)].as_str()).collect();
        let (count, drawn) = (held.len(), drawn.join(", "));
        how = format!("{count} of {present} domains, drawn at random, are held out: {drawn}");
    }
    let is_heldout = |row: usize| held.contains(&domain[row]);
    let rows = domain.len();
    let count = (0..rows).filter(|&row| is_heldout(row)).count();
    if count == 0 || count == rows {
        let found = format!("{count} of {rows} tokens held out");
        return Err(Error::invalid(path, "domains", found, "some tokens in each part"));
    }
    check_sides(&columns.request, is_heldout, path)?;
    Ok(Split {
        train: trace.select_rows(|row| !is_heldout(row)),
        heldout: trace.select_rows(is_heldout),
        how,
    })
}

/// The place of `name` in the domains of a header.
pub(crate) fn domain_index(all: &[String], name: &str, path: &str) -> Result<u16> {
    if all.is_empty() {
        return Err(Error::invalid(path, "domains", "none", "a recording that names domains"));
    }
    let found = all.iter().position(|known| known == name);
    found.and_then(|index| u16::try_from(index).ok()).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        Error::Unknown(unknown("domain", name, &names))
    })
}

/// Refuses a request that would have tokens in both parts.
fn check_sides(request: &[u32], is_heldout: impl Fn(usize) -> bool, path: &str) -> Result<()> {
    let mut side_of = HashMap::new();
    for (row, &request) in request.iter().enumerate() {
        let side = is_heldout(row);
        if *side_of.entry(request).or_insert(side) != side {
            let found = "tokens of held-out and of other domains";
            let expected = "requests of one domain each; split by request instead";
            return Err(Error::invalid(path, format!("request {request}"), found, expected));
        }
    }
    Ok(())
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
        how: format!(
            "the last {count} of {steps} steps are held out (the recording does not know several \
             requests)"
        ),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{traces, with_domains};
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

    proptest! {
        /// Whatever is kept together: the parts are the whole, and no request is in both.
        #[test]
        fn parts_of_every_kind_are_the_whole(
            whole in traces(),
            share in 0.01_f64..0.99,
            seed: u64,
        ) {
            for by in [By::Request, By::Domain(Vec::new()), By::Time] {
                let Ok(parts) = split_by(&whole, &by, share, Seed(seed), "test") else { continue };
                let columns = |part: &RoutingTrace| {
                    let columns = part.tokens().unwrap();
                    let rows = columns.step.iter().zip(columns.request.iter());
                    rows.zip(columns.position.iter()).map(|((&s, &r), &p)| (s, r, p)).collect()
                };
                let (train, heldout): (Vec<_>, Vec<_>) =
                    (columns(&parts.train), columns(&parts.heldout));
                prop_assert!(!train.is_empty() && !heldout.is_empty());
                if whole.request_count().unwrap() > 1 {
                    prop_assert!(train.iter().all(|a| heldout.iter().all(|b| a.1 != b.1)));
                }
                let mut both = [train, heldout].concat();
                both.sort_unstable();
                let mut all = columns(&whole);
                all.sort_unstable();
                prop_assert_eq!(both, all);
                for part in [&parts.train, &parts.heldout] {
                    prop_assert!(part.header().remarks.last().unwrap().contains(&parts.how));
                }
            }
        }
    }

    #[test]
    fn the_last_requests_to_start_are_held_out() {
        let parts = split_by(&trace(&[5, 9, 5, 2, 9, 2, 7]), &By::Time, 0.5, Seed(0), "t").unwrap();
        let requests = |part: &RoutingTrace| part.tokens().unwrap().request.to_vec();
        assert_eq!(requests(&parts.train), [5, 9, 5, 9]);
        assert_eq!(requests(&parts.heldout), [2, 2, 7]);
        assert_eq!(parts.how, "the last 2 of 4 requests to start are held out");
    }

    #[test]
    fn domains_are_held_out_by_name() {
        let whole = with_domains(&trace(&[0, 1, 2, 0]), &["code", "law"], &[0, 1, 1, 0]);
        let by = |name: &str| By::Domain(vec![name.to_owned()]);
        let parts = split_by(&whole, &by("law"), 0.3, Seed(0), "t").unwrap();
        assert_eq!(*parts.heldout.tokens().unwrap().request, [1, 2]);
        let error = split_by(&whole, &by("lwa"), 0.3, Seed(0), "t").unwrap_err().to_string();
        assert!(error.contains("did you mean `law`"), "{error}");
        let mixed = with_domains(&trace(&[0, 1, 1, 0]), &["code", "law"], &[0, 0, 1, 0]);
        let error = split_by(&mixed, &by("law"), 0.3, Seed(0), "t").unwrap_err().to_string();
        assert!(error.starts_with("t: request 1: tokens of held-out"), "{error}");
        assert!(split_by(&trace(&[0, 1]), &by("law"), 0.3, Seed(0), "t").is_err());
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
