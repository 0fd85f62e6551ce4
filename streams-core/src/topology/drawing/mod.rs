//! Pictures of a topology: Mermaid and DOT for those who have a tool for them, SVG and HTML that need none.
//!
//! All are made from one graph: topics between the boxes of sub-topologies, in these sources, processors, sinks and
//! stores. Names are escaped by each format's rules; nothing is loaded from elsewhere and nothing runs.

mod dot;
mod graph;
mod html;
mod layers;
mod mermaid;
mod place;
mod route;
mod svg;

use graph::Graph;

use crate::topology::description::TopologyDescription;

impl TopologyDescription {
    /// A Mermaid flowchart, as Markdown pages of GitHub and others show it.
    ///
    /// ```
    /// use streams_core::topology::TopologyDescription;
    ///
    /// let text = "Topologies:\n   Sub-topology: 0\n    Source: lines (topics: [text])\n      --> none\n\n";
    /// let mermaid = text.parse::<TopologyDescription>()?.to_mermaid();
    /// assert!(mermaid.contains("topic0 --> node0"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn to_mermaid(&self) -> String {
        mermaid::render(&Graph::of(self))
    }

    /// A digraph in DOT, for Graphviz: `millstream topology draw FILE --format dot | dot -Tpdf`.
    ///
    /// ```
    /// use streams_core::topology::TopologyDescription;
    ///
    /// let text = "Topologies:\n   Sub-topology: 0\n    Source: lines (topics: [text])\n      --> none\n\n";
    /// let dot = text.parse::<TopologyDescription>()?.to_dot();
    /// assert!(dot.contains("topic0 -> node0"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn to_dot(&self) -> String {
        dot::render(&Graph::of(self))
    }

    /// A picture as SVG, complete in itself: records flow from top to bottom, whole names are shown as tool tips.
    ///
    /// ```
    /// use streams_core::topology::TopologyDescription;
    ///
    /// let text = "Topologies:\n   Sub-topology: 0\n    Source: lines (topics: [text])\n      --> none\n\n";
    /// let svg = text.parse::<TopologyDescription>()?.to_svg();
    /// assert!(svg.starts_with("<svg") && svg.contains(">text</tspan>"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn to_svg(&self) -> String {
        svg::render(&place::place(&Graph::of(self)))
    }

    /// A page with the picture of [`TopologyDescription::to_svg`], a legend and the text, without scripts and complete in itself.
    ///
    /// ```
    /// use streams_core::topology::TopologyDescription;
    ///
    /// let text = "Topologies:\n   Sub-topology: 0\n    Source: lines (topics: [text])\n      --> none\n\n";
    /// let html = text.parse::<TopologyDescription>()?.to_html();
    /// assert!(html.starts_with("<!DOCTYPE html>") && !html.contains("<script"));
    /// # Ok::<(), streams_core::StreamsError>(())
    /// ```
    pub fn to_html(&self) -> String {
        html::render(&self.to_svg(), &self.to_string())
    }
}

/// Text as the content of an element or attribute of XML and HTML. Characters that XML does not allow become U+FFFD.
fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(char),
            char if char.is_control() => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}
