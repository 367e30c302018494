//! The report page: one HTML file that needs nothing but itself.

use crate::RunFile;
use crate::draw::{Width, paint};
use crate::error::Result;
use crate::figures;

mod facts;
mod numbers;
mod words;

const STYLE: &str = include_str!("page/style.css");

/// The whole page.
///
/// # Errors
/// When a figure cannot be drawn.
pub fn page(run: &RunFile) -> Result<String> {
    let title = escape(&format!("Expert placement of {} on {}", run.model, run.cluster));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n:root{{{}}}\n\
         @media (prefers-color-scheme: dark){{:root{{{}}}}}\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n",
        paint::declarations(false),
        paint::declarations(true),
    );
    if run.trace.synthetic {
        html += "<p class=\"badge\">Synthetic recording: not measured</p>\n";
    }
    html += &format!("<p class=\"lead\">{}</p>\n</header>\n<main>\n", words::summary(run));
    html += &numbers::headlines(run);
    html += &numbers::comparison(run);
    html += "<h2>Figures</h2>\n";
    let mut entries: Vec<&figures::Entry> = figures::ALL.iter().collect();
    entries.sort_by_key(|entry| entry.order);
    for entry in entries {
        html += &format!("<figure id=\"{}\">\n<h3>{}</h3>\n", entry.name, escape(entry.title));
        for width in Width::ALL {
            html += &entry.inline(run, width)?;
        }
        html += &format!("<figcaption>{}</figcaption>\n</figure>\n", escape(entry.caption));
    }
    html += &facts::how_made(run);
    html += "</main>\n</body>\n</html>\n";
    Ok(html)
}

/// Every file of a report with its path under the report's folder, `/` between the parts: the
/// page, and each figure as SVG, PNG and CSV. The caller writes them.
///
/// # Errors
/// When a figure cannot be drawn.
pub fn write_files(run: &RunFile) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![("report.html".to_owned(), page(run)?.into_bytes())];
    for entry in figures::ALL {
        let path = |ending: &str| format!("figures/{}.{ending}", entry.name);
        files.push((path("svg"), entry.svg(run)?.into_bytes()));
        files.push((path("png"), entry.png(run)?));
        files.push((path("csv"), (entry.rows)(run).csv().into_bytes()));
    }
    Ok(files)
}

/// Text as it may stand anywhere in HTML, quoted attributes included.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
