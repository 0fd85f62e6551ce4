//! A placed picture as SVG.

use std::fmt::Write;

use super::escape_xml;
use super::graph::{NodeShape, TopicKind};
use super::layers::Point;
use super::place::{Drawing, Line, Look, Shape};

const STYLE: &str = "\
.ms-frame{fill:#fafafa;stroke:#9a9a9a}.ms-global{stroke-dasharray:6 4}\
.ms-title{font:600 12px sans-serif;fill:#555;paint-order:stroke;stroke:#fafafa;stroke-width:4px}\
.ms-name{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1d1d1d;text-anchor:middle}\
.ms-arrow{fill:none;stroke:#555;stroke-width:1.2;stroke-linejoin:round}\
.ms-use{fill:none;stroke:#6f3fa0;stroke-width:1.2;stroke-dasharray:3 3}\
.ms-source{fill:#e3f4e7;stroke:#2f7d43}.ms-processor{fill:#e8eefb;stroke:#3a5ba0}.ms-sink{fill:#fbe9e3;stroke:#b0522d}\
.ms-store{fill:#efe6f7;stroke:#6f3fa0}.ms-topic{fill:#fdf6e3;stroke:#8a6d1b}\
.ms-internal{fill:#f3f3f3;stroke:#666;stroke-dasharray:5 3}.ms-open{fill:#fdf6e3;stroke:#8a6d1b;stroke-dasharray:2 2}";

/// Writing to a String cannot fail.
macro_rules! put {
    ($text:expr, $($form:tt)*) => {{ let _ = write!($text, $($form)*); }};
}

pub(super) fn render(drawing: &Drawing) -> String {
    let (width, height) = (drawing.width.ceil(), drawing.height.ceil());
    let mut text = String::new();
    put!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"topology\">\n"
    );
    put!(
        text,
        "<style>{STYLE}</style>\n<defs><marker id=\"ms-tip\" viewBox=\"0 0 8 8\" refX=\"7.5\" refY=\"4\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8Z\" fill=\"#555\"/></marker></defs>\n"
    );
    put!(text, "<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n");
    for frame in &drawing.frames {
        let class = if frame.is_global { "ms-frame ms-global" } else { "ms-frame" };
        put!(
            text,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"6\"/>\n",
            frame.x,
            frame.y,
            frame.width,
            frame.height
        );
    }
    drawing.lines.iter().for_each(|line| put_line(&mut text, line));
    for frame in &drawing.frames {
        let title = escape_xml(&frame.title);
        put!(text, "<text class=\"ms-title\" x=\"{:.1}\" y=\"{:.1}\">{title}</text>\n", frame.x + 10.0, frame.y + 17.0);
    }
    drawing.shapes.iter().for_each(|shape| put_shape(&mut text, shape));
    text.push_str("</svg>\n");
    text
}

/// Straight where a line goes straight up, down or aside, and bent from one column to the next.
fn path(points: &[Point]) -> String {
    let mut path = String::new();
    let mut from: Option<Point> = None;
    for &(x, y) in points {
        match from {
            None => put!(path, "M{x:.1} {y:.1}"),
            Some((before_x, before_y)) if (before_x - x).abs() < 0.5 || (before_y - y).abs() < 0.5 => {
                put!(path, "L{x:.1} {y:.1}");
            }
            Some((before_x, before_y)) => {
                let middle = f64::midpoint(before_y, y);
                put!(path, "C{before_x:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}");
            }
        }
        from = Some((x, y));
    }
    path
}

fn put_line(text: &mut String, line: &Line) {
    let path = path(&line.points);
    match line.is_arrow {
        true => put!(text, "<path class=\"ms-arrow\" d=\"{path}\" marker-end=\"url(#ms-tip)\"/>\n"),
        false => put!(text, "<path class=\"ms-use\" d=\"{path}\"/>\n"),
    }
}

fn class(look: Look) -> (&'static str, &'static str) {
    match look {
        Look::Node(NodeShape::Source) => ("ms-source", "source"),
        Look::Node(NodeShape::Processor) => ("ms-processor", "processor"),
        Look::Node(NodeShape::Sink) => ("ms-sink", "sink"),
        Look::Store => ("ms-store", "state store"),
        Look::Topic(TopicKind::External) => ("ms-topic", "topic"),
        Look::Topic(TopicKind::Internal) => ("ms-internal", "internal topic"),
        Look::Topic(TopicKind::Pattern) => ("ms-open", "topics by pattern"),
        Look::Topic(TopicKind::Extracted) => ("ms-open", "topic chosen for each record by"),
    }
}

fn put_shape(text: &mut String, shape: &Shape) {
    let (class, kind) = class(shape.look);
    let (x, y, width, height) = (shape.x, shape.y, shape.width, shape.height);
    put!(text, "<g><title>{kind} {}</title>", escape_xml(&shape.name));
    let mut first_line = y + height / 2.0 - (shape.lines.len() as f64 - 1.0) * 7.0 + 4.0;
    match shape.look {
        Look::Node(kind) => {
            let round = if kind == NodeShape::Processor { 3.0 } else { height / 2.0 };
            put!(
                text,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round:.1}\"/>"
            );
        }
        Look::Store => {
            first_line += 4.0;
            let (right, top, bottom, half) = (x + width, y + 5.0, y + height - 5.0, width / 2.0);
            put!(
                text,
                "<path class=\"{class}\" d=\"M{x:.1} {top:.1}A{half:.1} 5 0 0 1 {right:.1} {top:.1}V{bottom:.1}\
                 A{half:.1} 5 0 0 1 {x:.1} {bottom:.1}Z M{x:.1} {top:.1}A{half:.1} 5 0 0 0 {right:.1} {top:.1}\"/>"
            );
        }
        Look::Topic(_) => {
            let (right, bottom) = (x + width, y + height);
            put!(
                text,
                "<path class=\"{class}\" d=\"M{:.1} {y:.1}H{right:.1}L{:.1} {bottom:.1}H{x:.1}Z\"/>",
                x + 8.0,
                right - 8.0
            );
        }
    }
    put!(text, "<text class=\"ms-name\">");
    for (index, line) in shape.lines.iter().enumerate() {
        let (x, y) = (x + width / 2.0, first_line + index as f64 * 14.0);
        put!(text, "<tspan x=\"{x:.1}\" y=\"{y:.1}\">{}</tspan>", escape_xml(line));
    }
    text.push_str("</text></g>\n");
}
