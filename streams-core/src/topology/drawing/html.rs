//! A page around the picture: legend and text. No scripts, nothing from elsewhere.

use super::escape_xml;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Topology</title>
<style>
body{font:14px/1.5 sans-serif;margin:24px;color:#1d1d1d;background:#fff}
.ms-picture{overflow:auto;border:1px solid #ddd;border-radius:6px}
.ms-picture svg{display:block;margin:auto}
ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:4px 20px}
li span{display:inline-block;width:14px;height:14px;margin-right:6px;vertical-align:-2px;border:1px solid}
pre{background:#fafafa;border:1px solid #ddd;border-radius:6px;padding:12px;overflow:auto;font-size:12px}
</style>
</head>
<body>
<h1>Topology</h1>
<ul>
<li><span style=\"background:#fdf6e3;border-color:#8a6d1b\"></span>topic</li>
<li><span style=\"background:#f3f3f3;border:1px dashed #666\"></span>internal topic</li>
<li><span style=\"background:#e3f4e7;border-color:#2f7d43\"></span>source</li>
<li><span style=\"background:#e8eefb;border-color:#3a5ba0\"></span>processor</li>
<li><span style=\"background:#fbe9e3;border-color:#b0522d\"></span>sink</li>
<li><span style=\"background:#efe6f7;border-color:#6f3fa0\"></span>state store</li>
</ul>
<div class=\"ms-picture\">
";

pub(super) fn render(svg: &str, description: &str) -> String {
    let description = escape_xml(description);
    format!("{HEAD}{svg}</div>\n<h2>Description</h2>\n<pre>{description}</pre>\n</body>\n</html>\n")
}
