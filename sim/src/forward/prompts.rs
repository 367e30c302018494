//! Prompts that borrow the routing of recorded requests: tokens of one prompt choose alike.

use moecast_profiles::ids::MoeLayer;
use moecast_profiles::seed::Generator;
use moecast_traces::RoutingTrace;
use rand::RngExt;

/// Rows of a recording, request by request.
pub(super) struct Requests {
    /// First row of every request in `rows`, and the end of the last.
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Requests {
    /// Of `trace`, where it knows tokens.
    pub(super) fn of(trace: &RoutingTrace) -> Option<Self> {
        let columns = trace.tokens()?;
        let mut rows: Vec<(u32, u32)> = columns.request.iter().copied().zip(0..).collect();
        rows.sort_unstable();
        let mut starts = Vec::new();
        for (place, (request, _)) in rows.iter().enumerate() {
            if place == 0 || rows[place - 1].0 != *request {
                starts.push(place as u32);
            }
        }
        starts.push(rows.len() as u32);
        Some(Self { starts, rows: rows.into_iter().map(|(_, row)| row).collect() })
    }

    /// So many requests, drawn one by one.
    pub(super) fn draw(&self, count: u32, bits: &mut Generator) -> Vec<u32> {
        let requests = self.starts.len() as u32 - 1;
        (0..count).map(|_| bits.random_range(0..requests)).collect()
    }

    /// The experts of a token of `request`.
    pub(super) fn pick(
        &self,
        trace: &RoutingTrace,
        request: u32,
        layer: MoeLayer,
        bits: &mut Generator,
        into: &mut Vec<u16>,
    ) {
        let [start, end] = [request, request + 1].map(|one| self.starts[one as usize] as usize);
        let rows = &self.rows[start..end];
        let row = rows[bits.random_range(0..rows.len() as u32) as usize];
        into.clear();
        into.extend(trace.chosen(row as usize, layer).map(|expert| expert.0));
    }
}
