//! What plotters writes, made small and fit for its place. It writes one element per line, and
//! texts on a line of their own between the lines of their tags.

use super::paint::variables;

/// A file: on white, with a title for those who cannot see it.
pub(super) fn file(raw: &str, shown: (u32, u32), view: (u32, u32), title: &str) -> String {
    let (width, height) = view;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         viewBox=\"0 0 {width} {height}\" \
         font-family=\"DejaVu Sans, Verdana, Helvetica, Arial, sans-serif\" role=\"img\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n{}\
         </svg>\n",
        shown.0,
        shown.1,
        crate::page::escape(title),
        body(raw)
    )
}

/// An element of the page, which scales and takes its colours and its font from there.
pub(super) fn inline(raw: &str, view: (u32, u32), class: &str, title: &str) -> String {
    let mut body = body(raw);
    for (stand_in, css) in variables() {
        body = body.replace(&format!("\"{stand_in}\""), &format!("\"{css}\""));
    }
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{body}\
         </svg>\n",
        view.0,
        view.1,
        crate::page::escape(title)
    )
}

/// Neighbouring rectangles, or lines, of one style: a single path.
struct Path {
    style: String,
    data: String,
}

fn body(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len() / 2);
    let mut open: Option<Path> = None;
    let mut lines = raw.lines();
    while let Some(line) = lines.next() {
        let piece = if line.starts_with("<rect") {
            Some((rectangle_style(line), rectangle(line)))
        } else if line.starts_with("<polyline") {
            Some((line_style(line), polyline(line)))
        } else {
            None
        };
        match (piece, &mut open) {
            (Some((style, data)), Some(path)) if path.style == style => path.data += &data,
            (Some((style, data)), _) => {
                close(&mut out, open.take());
                open = Some(Path { style, data });
            }
            (None, _) => {
                close(&mut out, open.take());
                if line.starts_with("<text") {
                    let content: Vec<&str> =
                        lines.by_ref().take_while(|line| *line != "</text>").collect();
                    text(&mut out, line, &content.concat());
                } else if !line.starts_with("<svg") && !line.starts_with("</svg") {
                    out.push_str(&line.replace(" opacity=\"1\"", "").replace(" \"/>", "\"/>"));
                    out.push('\n');
                }
            }
        }
    }
    close(&mut out, open);
    out
}

fn close(out: &mut String, path: Option<Path>) {
    if let Some(Path { style, data }) = path {
        out.push_str(&format!("<path {style} d=\"{data}\"/>\n"));
    }
}

/// The value of an attribute; attributes of numbers and colours hold no quotes.
fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let key = format!(" {name}=\"");
    let value = line.find(&key).map_or("", |at| &line[at + key.len()..]);
    value.split('"').next().unwrap_or("")
}

fn rectangle_style(line: &str) -> String {
    // Neighbouring cells would show seams if their common edge were softened twice.
    format!("fill=\"{}\" shape-rendering=\"crispEdges\"", attribute(line, "fill"))
}

fn rectangle(line: &str) -> String {
    let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| attribute(line, name));
    format!("M{x} {y}h{width}v{height}h-{width}z")
}

fn line_style(line: &str) -> String {
    let [stroke, width] = ["stroke", "stroke-width"].map(|name| attribute(line, name));
    format!("fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"")
}

fn polyline(line: &str) -> String {
    format!("M{}", attribute(line, "points").trim_end())
}

fn text(out: &mut String, tag: &str, content: &str) {
    let [x, y, dy, anchor, fill] =
        ["x", "y", "dy", "text-anchor", "fill"].map(|name| attribute(tag, name));
    let size: f64 = attribute(tag, "font-size").parse().unwrap_or(0.0);
    let size = (size * 10.0).round() / 10.0;
    let bold = if attribute(tag, "font-weight") == "bold" { " font-weight=\"bold\"" } else { "" };
    out.push_str(&format!(
        "<text x=\"{x}\" y=\"{y}\" dy=\"{dy}\" text-anchor=\"{anchor}\" font-size=\"{size}\"{bold} \
         fill=\"{fill}\">{content}</text>\n"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_style_become_one_path() {
        let raw = "<svg width=\"4\">\n\
            <rect x=\"0\" y=\"1\" width=\"2\" height=\"3\" opacity=\"1\" fill=\"#AA0000\"/>\n\
            <rect x=\"2\" y=\"1\" width=\"2\" height=\"3\" opacity=\"1\" fill=\"#AA0000\"/>\n\
            <rect x=\"4\" y=\"1\" width=\"2\" height=\"3\" opacity=\"1\" fill=\"#010200\"/>\n\
            </svg>\n";
        assert_eq!(
            body(raw),
            "<path fill=\"#AA0000\" shape-rendering=\"crispEdges\" \
             d=\"M0 1h2v3h-2zM2 1h2v3h-2z\"/>\n\
             <path fill=\"#010200\" shape-rendering=\"crispEdges\" d=\"M4 1h2v3h-2z\"/>\n"
        );
        assert!(inline(raw, (4, 4), "wide", "t").contains("fill=\"currentColor\""));
    }

    #[test]
    fn texts_lose_their_line_ends() {
        let raw = "<text x=\"1\" y=\"2\" dy=\"0.5ex\" text-anchor=\"end\" font-family=\"m\" \
                   font-size=\"24.000000000000004\" opacity=\"1\" fill=\"#000000\">\n<b>\n</text>";
        assert_eq!(
            body(raw),
            "<text x=\"1\" y=\"2\" dy=\"0.5ex\" text-anchor=\"end\" font-size=\"24\" \
             fill=\"#000000\"><b></text>\n"
        );
    }
}
