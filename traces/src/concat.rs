//! Several recordings of one model become one: their steps follow each other, and no request or
//! step of one is taken for that of another.

use std::collections::HashMap;

use crate::column::Column;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::trace::{CountColumns, Events, RoutingTrace, TokenColumns};

/// What tokens are called that have no domain, where others have one.
pub const NO_DOMAIN: &str = "unlabelled";

/// A recording that is to be joined.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The recording.
    pub trace: &'a RoutingTrace,
    /// What errors and remarks call it.
    pub name: &'a str,
    /// The domain of all its tokens; without one they keep theirs.
    pub domain: Option<&'a str>,
}

/// Joins `parts` in the order given. The first keeps the numbers of its requests and steps, those
/// of the others follow. Domains are joined by name. Gate weights are kept where all parts have
/// them; a remark says where they were not.
///
/// # Errors
/// When there is no part, parts differ in kind, experts, top-k or layers, a domain is given to
/// counts, or requests or steps run out of numbers; the error names the part.
pub fn concat(parts: &[Part<'_>]) -> Result<RoutingTrace> {
    let Some(first) = parts.first() else {
        return Err(Error::invalid("concat", "list of parts", "none", "at least one recording"));
    };
    for part in parts {
        check_alike(first, part)?;
    }
    let mut header = header(parts);
    let events = if first.trace.tokens().is_some() {
        tokens(parts, &mut header)?
    } else {
        if let Some(part) = parts.iter().find(|part| part.domain.is_some()) {
            let expected = "a token recording: counts do not know domains";
            return Err(Error::invalid(part.name, "domain", "counts", expected));
        }
        counts(parts)
    };
    RoutingTrace::new(header, events, "concat")
}

fn check_alike(first: &Part<'_>, part: &Part<'_>) -> Result<()> {
    let kind = |part: &Part<'_>| if part.trace.tokens().is_some() { "tokens" } else { "counts" };
    let (ours, theirs) = (first.trace.header(), part.trace.header());
    let layers = |header: &Header| match header.layers.as_slice() {
        layers @ ([] | [_] | [_, _]) => format!("{layers:?}"),
        [low, .., high] => format!("{} from {low} to {high}", header.layers.len()),
    };
    let [place, found, expected] = if kind(part) != kind(first) {
        ["recording", kind(part), kind(first)].map(str::to_owned)
    } else if theirs.experts != ours.experts {
        ["experts".to_owned(), theirs.experts.to_string(), ours.experts.to_string()]
    } else if theirs.top_k != ours.top_k {
        ["top-k".to_owned(), theirs.top_k.to_string(), ours.top_k.to_string()]
    } else if theirs.layers != ours.layers {
        ["layers".to_owned(), layers(theirs), layers(ours)]
    } else {
        return Ok(());
    };
    Err(Error::invalid(part.name, place, found, format!("{expected}, as in {}", first.name)))
}

/// What all parts say, once, and what some say with their name.
fn header(parts: &[Part<'_>]) -> Header {
    let headers = || parts.iter().map(|part| part.trace.header());
    let mut joined = parts[0].trace.header().clone();
    if parts.len() == 1 {
        return joined;
    }
    joined.synthetic = headers().any(|header| header.synthetic);
    joined.source = distinct(headers().map(|header| header.source.as_str())).join(" + ");
    joined.model = distinct(headers().map(|header| header.model.as_str())).join(" + ");
    joined.remarks.clear();
    joined.inputs.clear();
    for part in parts {
        let header = part.trace.header();
        for remark in &header.remarks {
            let by_all = headers().all(|header| header.remarks.contains(remark));
            let text = if by_all { remark.clone() } else { format!("{}: {remark}", part.name) };
            if !joined.remarks.contains(&text) {
                joined.remarks.push(text);
            }
        }
        joined.inputs.extend(header.inputs.iter().cloned());
    }
    if headers().any(|header| header.expert_bytes != joined.expert_bytes) {
        joined.expert_bytes.clear();
        joined.remarks.push("sizes of experts were dropped: the parts differ in them".to_owned());
    }
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    joined.remarks.push(format!("joined from {}", names.join(", ")));
    joined
}

/// The texts that are not empty, each once.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn counts(parts: &[Part<'_>]) -> Events {
    let all = parts.iter().map(|part| match part.trace.events() {
        Events::Counts(columns) => &columns.counts[..],
        Events::Tokens(_) => unreachable!("all parts are counts"),
    });
    Events::Counts(CountColumns { counts: all.collect::<Vec<_>>().concat().into() })
}

fn tokens(parts: &[Part<'_>], header: &mut Header) -> Result<Events> {
    let columns: Vec<&TokenColumns> =
        parts.iter().map(|part| part.trace.tokens().expect("all parts are tokens")).collect();
    let with = columns.iter().filter(|columns| columns.weights.is_some()).count();
    if with > 0 && with < parts.len() {
        let without = parts.iter().zip(&columns).find(|(_, columns)| columns.weights.is_none());
        let name = without.expect("counted above").0.name;
        header.remarks.push(format!("gate weights were dropped: {name} has none"));
    }
    let weights = columns.iter().map(|columns| columns.weights.as_ref());
    let request: Vec<&[u32]> = columns.iter().map(|columns| &columns.request[..]).collect();
    let step: Vec<&[u32]> = columns.iter().map(|columns| &columns.step[..]).collect();
    Ok(Events::Tokens(TokenColumns {
        experts: joined(columns.iter().map(|columns| &columns.experts)),
        weights: weights.collect::<Option<Vec<_>>>().map(|all| joined(all.into_iter())),
        request: renumbered("request", parts, &request)?.into(),
        position: joined(columns.iter().map(|columns| &columns.position)),
        step: renumbered("step", parts, &step)?.into(),
        phase: joined(columns.iter().map(|columns| &columns.phase)),
        domain: domains(parts, &columns, header)?,
    }))
}

fn joined<'a, T: bytemuck::Pod>(columns: impl Iterator<Item = &'a Column<T>>) -> Column<T> {
    columns.map(|column| &column[..]).collect::<Vec<_>>().concat().into()
}

/// The numbers of the parts one after the other: those of each begin where the last one ended.
fn renumbered(what: &str, parts: &[Part<'_>], columns: &[&[u32]]) -> Result<Vec<u32>> {
    let mut all = Vec::with_capacity(columns.iter().map(|column| column.len()).sum());
    // The first part keeps its numbers.
    let mut next = columns[0].iter().copied().min().map_or(0, u64::from);
    for (part, column) in parts.iter().zip(columns) {
        let low = column.iter().copied().min().map_or(0, u64::from);
        let start = next;
        for &number in *column {
            let moved = u64::from(number) - low + start;
            next = next.max(moved + 1);
            all.push(u32::try_from(moved).map_err(|_| {
                let place = format!("{what} {number}");
                Error::invalid(part.name, place, moved.to_string(), "numbers below 2^32")
            })?);
        }
    }
    Ok(all)
}

/// The domain of every token by the names of all parts; none where no part knows domains.
fn domains(
    parts: &[Part<'_>],
    columns: &[&TokenColumns],
    header: &mut Header,
) -> Result<Option<Column<u16>>> {
    let known = |(part, columns): (&Part<'_>, &&TokenColumns)| {
        part.domain.is_some() || columns.domain.is_some()
    };
    let knowing = parts.iter().zip(columns).filter(|&pair| known(pair)).count();
    if knowing == 0 {
        return Ok(None);
    }
    let mut names = Names::default();
    let mut all = Vec::with_capacity(columns.iter().map(|columns| columns.step.len()).sum());
    for (part, columns) in parts.iter().zip(columns) {
        match (part.domain, &columns.domain) {
            (None, Some(domain)) => {
                let mut index = Vec::new();
                for name in &part.trace.header().domains {
                    index.push(names.index(name, part.name)?);
                }
                all.extend(domain.iter().map(|&old| index[usize::from(old)]));
            }
            (label, _) => {
                let index = names.index(label.unwrap_or(NO_DOMAIN), part.name)?;
                all.resize(all.len() + columns.step.len(), index);
            }
        }
    }
    for part in parts.iter().filter(|part| part.domain.is_none()) {
        if part.trace.tokens().is_some_and(|columns| columns.domain.is_none()) {
            header.remarks.push(format!("{}: no domains, called `{NO_DOMAIN}`", part.name));
        }
    }
    header.domains = names.names;
    Ok(Some(all.into()))
}

/// Domains in the order in which they first occur.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    /// Looked up, never iterated.
    known: HashMap<String, u16>,
}

impl Names {
    fn index(&mut self, name: &str, part: &str) -> Result<u16> {
        if let Some(&index) = self.known.get(name) {
            return Ok(index);
        }
        let index = u16::try_from(self.names.len()).map_err(|_| {
            Error::invalid(part, "domains", "more than 65536 in all", "fewer domains")
        })?;
        self.names.push(name.to_owned());
        self.known.insert(name.to_owned(), index);
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::slice::{Selection, slice};
    use crate::testing::{contents, counts as count_trace, traces, with_domains};

    fn part<'a>(trace: &'a RoutingTrace, name: &'a str) -> Part<'a> {
        Part { trace, name, domain: None }
    }

    proptest! {
        #[test]
        fn one_part_is_itself(trace in traces()) {
            prop_assert_eq!(concat(&[part(&trace, "a")]).unwrap(), trace);
        }

        /// Requests of the parts do not meet, and a slice of the steps of a part is that part.
        #[test]
        fn slices_give_back_the_parts(a in traces(), b in traces()) {
            let both = concat(&[part(&a, "a"), part(&b, "b")]).unwrap();
            let border = a.steps().last().unwrap().step + 1;
            let steps = |steps| {
                slice(&both, &Selection { steps: Some(steps), ..Selection::default() }, "t")
            };
            let back = [steps(0..border).unwrap(), steps(border..u32::MAX).unwrap()];
            let weighted = [&a, &b].iter().all(|part| part.tokens().unwrap().weights.is_some());
            let named = both.tokens().unwrap().domain.is_some();
            for (part, back) in [&a, &b].into_iter().zip(&back) {
                prop_assert_eq!(part.steps().len(), back.steps().len());
                prop_assert_eq!(part.request_count(), back.request_count());
                let mut expected = contents(part);
                for row in &mut expected {
                    if !weighted {
                        row.4.clear();
                    }
                    if named && row.2.is_empty() {
                        NO_DOMAIN.clone_into(&mut row.2);
                    }
                }
                prop_assert_eq!(expected, contents(back));
            }
            let requests = a.request_count().unwrap() + b.request_count().unwrap();
            prop_assert_eq!(both.request_count().unwrap(), requests);
        }

        #[test]
        fn counts_follow_each_other(
            a in prop::collection::vec(any::<[u32; 4]>(), 1..4),
            b in prop::collection::vec(any::<[u32; 4]>(), 1..4),
        ) {
            let (first, second) = (count_trace(&a), count_trace(&b));
            let both = concat(&[part(&first, "a"), part(&second, "b")]).unwrap();
            let expected = count_trace(&[a, b].concat());
            prop_assert_eq!(both.events(), expected.events());
        }
    }

    #[test]
    fn labels_and_remarks_say_where_tokens_come_from() {
        let mut header = Header::new("test", "", 2, 1, vec![0]);
        header.remarks = vec!["shared".to_owned(), "own".to_owned()];
        let make = |header: &Header| {
            let mut builder = crate::TraceBuilder::new(header.clone());
            builder.push_token(crate::TokenRow {
                request: 3,
                position: 0,
                step: 7,
                phase: crate::Phase::Decode,
                experts: &[1],
                weights: None,
            });
            builder.finish("test").unwrap()
        };
        let a = make(&header);
        header.remarks.pop();
        let b = with_domains(&make(&header), &["law"], &[0]);
        let labelled = Part { domain: Some("code"), ..part(&a, "a") };
        let both = concat(&[labelled, part(&b, "b"), labelled]).unwrap();
        assert_eq!(both.header().domains, ["code", "law"]);
        let columns = both.tokens().unwrap();
        assert_eq!(columns.domain.as_deref(), Some(&[0, 1, 0][..]));
        assert_eq!((&columns.request[..], &columns.step[..]), (&[3, 4, 5][..], &[7, 8, 9][..]));
        assert_eq!(both.header().remarks, ["shared", "a: own", "joined from a, b, a"]);
    }

    #[test]
    fn what_differs_is_refused_by_name() {
        let a = count_trace(&[[1, 2, 3, 4]]);
        let mut header = Header::new("test", "", 5, 1, vec![3, 5]);
        let other = |header: &Header| {
            let mut builder = crate::TraceBuilder::new(header.clone());
            builder.push_counts(&vec![1; 2 * usize::from(header.experts)]);
            builder.finish("test").unwrap()
        };
        let check = |b: &RoutingTrace, expected: &str| {
            let error = concat(&[part(&a, "a"), part(b, "b")]).unwrap_err().to_string();
            assert_eq!(error, expected);
        };
        check(&other(&header), "b: experts: 5; expected 2, as in a");
        header.experts = 2;
        header.layers = vec![0, 1];
        check(&other(&header), "b: layers: [0, 1]; expected [3, 5], as in a");
        header.top_k = 2;
        check(&other(&header), "b: top-k: 2; expected 1, as in a");
        let labelled = Part { domain: Some("code"), ..part(&a, "a") };
        assert!(concat(&[labelled]).unwrap_err().to_string().starts_with("a: domain: counts"));
    }
}
