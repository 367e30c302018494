//! Writing: the same bytes whether a trace is held, mapped or spilled.

use std::collections::HashMap;
use std::io::Write;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::METADATA_KEY;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::spill::Bytes;
use crate::trace::{CountColumns, Events, RoutingTrace};

/// The columns of a trace as bytes.
#[derive(Clone, Copy)]
pub(crate) enum Tensors<'a> {
    Counts(Bytes<'a>),
    Tokens {
        experts: Bytes<'a>,
        weights: Option<Bytes<'a>>,
        request: Bytes<'a>,
        position: Bytes<'a>,
        step: Bytes<'a>,
        phase: Bytes<'a>,
        domain: Option<Bytes<'a>>,
    },
}

/// Writes `trace`.
///
/// # Errors
/// What `into` answers; `path` is named in the error.
pub fn write(trace: &RoutingTrace, path: &str, into: &mut dyn Write) -> Result<()> {
    let tensors = match trace.events() {
        Events::Counts(CountColumns { counts }) => Tensors::Counts(Bytes::of(counts)),
        Events::Tokens(tokens) => Tensors::Tokens {
            experts: Bytes::of(&tokens.experts),
            weights: tokens.weights.as_ref().map(|column| Bytes::of(column)),
            request: Bytes::of(&tokens.request),
            position: Bytes::of(&tokens.position),
            step: Bytes::of(&tokens.step),
            phase: Bytes::of(&tokens.phase),
            domain: tokens.domain.as_ref().map(|column| Bytes::of(column)),
        },
    };
    write_tensors(trace.header(), tensors, path, into)
}

/// Writes the trace that has this header and these columns, which are known to hold together.
pub(crate) fn write_tensors(
    header: &Header,
    tensors: Tensors<'_>,
    path: &str,
    into: &mut dyn Write,
) -> Result<()> {
    let preamble = preamble(header, &tensors.list());
    into.write_all(&preamble)
        .map_err(|error| Error::Io { path: path.to_owned(), source: error })?;
    tensors.list().into_iter().try_for_each(|tensor| tensor.bytes.copy_to(path, into))
}

/// One tensor of the file.
struct Tensor<'a> {
    name: &'static str,
    data_type: Dtype,
    /// Sizes of a row by the letters of the format: `M`, `k`, `E`.
    inner: &'static [Size],
    bytes: Bytes<'a>,
}

#[derive(Clone, Copy)]
enum Size {
    Layers,
    TopK,
    Experts,
}

impl<'a> Tensors<'a> {
    /// Bytes of all of them.
    pub(crate) fn bytes(self) -> u64 {
        self.list().iter().map(|tensor| tensor.bytes.len()).sum()
    }

    /// In the order of the file: wide elements first, so that all are aligned.
    fn list(self) -> Vec<Tensor<'a>> {
        const WIDE: &[Size] = &[Size::Layers, Size::TopK];
        let tensor = |name, data_type, inner, bytes| Tensor { name, data_type, inner, bytes };
        match self {
            Self::Counts(counts) => {
                vec![tensor("counts", Dtype::U32, &[Size::Layers, Size::Experts], counts)]
            }
            Self::Tokens { experts, weights, request, position, step, phase, domain } => [
                Some(tensor("request", Dtype::U32, &[], request)),
                Some(tensor("position", Dtype::U32, &[], position)),
                Some(tensor("step", Dtype::U32, &[], step)),
                Some(tensor("experts", Dtype::U16, WIDE, experts)),
                weights.map(|weights| tensor("weights", Dtype::F16, WIDE, weights)),
                domain.map(|domain| tensor("domain", Dtype::U16, &[], domain)),
                Some(tensor("phase", Dtype::U8, &[], phase)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }
}

/// The length and the JSON header of a safetensors file, padded so that the data is aligned.
fn preamble(header: &Header, tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut offset = 0;
    let infos = tensors.iter().map(|tensor| {
        let sizes = tensor.inner.iter().map(|size| match size {
            Size::Layers => header.moe_layers(),
            Size::TopK => header.top_k.into(),
            Size::Experts => header.experts.into(),
        });
        let bytes = usize::try_from(tensor.bytes.len()).expect("64 bits");
        let row_bytes = sizes.clone().product::<usize>() * tensor.data_type.bitsize() / 8;
        let shape = std::iter::once(bytes / row_bytes).chain(sizes).collect();
        let data_offsets = (offset, offset + bytes);
        offset = data_offsets.1;
        let info = TensorInfo { dtype: tensor.data_type, shape, data_offsets };
        (tensor.name.to_owned(), info)
    });
    let text = serde_json::to_string(header).expect("a header is plain data");
    let key = HashMap::from([(METADATA_KEY.to_owned(), text)]);
    let metadata = Metadata::new(Some(key), infos.collect()).expect("offsets are consecutive");
    let mut json = serde_json::to_vec(&metadata).expect("metadata is plain data");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut preamble = (json.len() as u64).to_le_bytes().to_vec();
    preamble.append(&mut json);
    preamble
}
