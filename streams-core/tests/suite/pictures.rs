//! Descriptions read back and drawn.

use streams_core::topology::TopologyDescription;

const GOLDEN: &str = include_str!("../data/topology-golden.txt");

/// Title and description of each topology of the file.
fn golden() -> Vec<(String, String)> {
    let sections = GOLDEN.split("##### ").skip(1).map(|section| {
        let (title, body) = section.split_once('\n').unwrap();
        let is_described = |line: &&str| {
            !line.starts_with("   R ") && !line.starts_with("   C ") && !line.starts_with("   copartition")
        };
        let text = body.lines().skip_while(|line| !line.starts_with("Topologies:")).filter(is_described);
        (title.to_owned(), text.map(|line| format!("{line}\n")).collect())
    });
    sections.collect()
}

fn of(title: &str) -> TopologyDescription {
    let (_, text) = golden().into_iter().find(|(known, _)| known.starts_with(title)).unwrap();
    text.parse().unwrap()
}

#[test]
fn what_is_described_can_be_read_back() {
    let texts = golden();
    assert_eq!(texts.len(), 57);
    for (title, text) in texts {
        let description: TopologyDescription = text.parse().unwrap();
        assert_eq!(description.to_string().trim_end(), text.trim_end(), "{title}");
        let again: TopologyDescription = description.to_string().parse().unwrap();
        assert_eq!(again, description, "{title}");
    }
}

#[test]
fn a_text_pasted_from_a_log_is_read() {
    let text = "12:00 INFO starting\r\n12:00 INFO Topologies:\r\n  Sub-topology: 0 for global store (will not generate tasks)\r\n\
                Source: s (topics: in-[a, b]+)\r\n--> p\r\nProcessor: p (stores: [x, y])\r\n--> none\r\n<-- s\r\n";
    insta::assert_snapshot!(text.parse::<TopologyDescription>().unwrap(), @r"
    Topologies:
       Sub-topology: 0 for global store (will not generate tasks)
        Source: s (topics: in-[a, b]+)
          --> p
        Processor: p (stores: [x, y])
          --> none
          <-- s
    ");
}

#[test]
fn what_is_not_understood_is_named_with_its_line() {
    let error = |text: &str| text.parse::<TopologyDescription>().unwrap_err().to_string();
    let head = "Topologies:\n   Sub-topology: 0\n";
    let errors = [
        error("hello"),
        error("Topologies:\n   Sub-topology: one\n"),
        error("Topologies:\n    Source: s (topics: [a])\n"),
        error(&format!("{head}      --> a\n")),
        error(&format!("{head}    Source: s\n")),
        error(&format!("{head}    Table: s (topics: [a])\n")),
        error(&format!("{head}    Processor: s (stores: [a)\n")),
        error(&format!("{head}    Source: s (topics: [a])\n      --> p\n")),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    invalid topology: there is no line "Topologies:"; expected the text that describe() prints
    invalid topology: line 2: one is not the number of a sub-topology: Sub-topology: one; expected the text that describe() prints
    invalid topology: line 2: this stands before the first Sub-topology: Source: s (topics: [a]); expected the text that describe() prints
    invalid topology: line 3: this stands before the first node: --> a; expected the text that describe() prints
    invalid topology: line 3: the closing bracket is missing: Source: s; expected the text that describe() prints
    invalid topology: line 3: this is not a source, processor or sink: Table: s (topics: [a]); expected the text that describe() prints
    invalid topology: line 3: the list of stores does not end: Processor: s (stores: [a); expected the text that describe() prints
    invalid topology: s names p, which sub-topology 0 does not have; expected the text that describe() prints
    "#);
}

#[test]
fn internal_topics_are_those_written_and_read() {
    assert_eq!(
        of("FK join unnamed").internal_topics(),
        [
            "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000006-topic",
            "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-0000000014-topic",
        ]
    );
    assert_eq!(of("groupBy Grouped.as").internal_topics().len(), 1);
    assert_eq!(of("stateless chain").internal_topics(), [""; 0]);
    assert_eq!(of("FK join unnamed").stores().len(), 3);
}

#[test]
fn a_count_as_mermaid_and_dot() {
    let count = of("groupBy count unnamed");
    insta::assert_snapshot!("mermaid", count.to_mermaid());
    insta::assert_snapshot!("dot", count.to_dot());
}

#[test]
fn pictures_as_svg() {
    insta::assert_snapshot!("svg_of_a_count", of("groupBy count unnamed").to_svg());
    // An arrow upwards, stores of several processors.
    insta::assert_snapshot!("svg_of_a_foreign_key_join", of("FK join unnamed").to_svg());
}

/// What is left of an SVG or HTML text without its tags, and the names of those that were opened and not closed.
fn open_tags(text: &str) -> Vec<String> {
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed));
        } else if !tag.ends_with('/') && !tag.starts_with('!') && name != "meta" {
            open.push(name);
        }
    }
    open
}

#[test]
fn names_are_text_wherever_they_stand() {
    let name = "</title><script>alert(\"1\")</script>&amp;`#;\\\"'";
    let text = format!("Topologies:\n   Sub-topology: 0\n    Source: {name} (topics: [a)|{name}]+)\n      --> none\n");
    let description: TopologyDescription = text.parse().unwrap();
    for page in [description.to_svg(), description.to_html()] {
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(open_tags(&page), [""; 0]);
    }
    insta::assert_snapshot!(description.to_mermaid().lines().take(4).collect::<Vec<_>>().join("\n"), @r##"
    flowchart TD
      topic0[/"[a)|#60;/title#62;#60;script#62;alert(#34;1#34;)#60;/script#62;#38;amp#59;#96;#35;#59;#92;#34;']+"/]:::pattern
      subgraph sub0["Sub-topology 0"]
        node0(["#60;/title#62;#60;script#62;alert(#34;1#34;)#60;/script#62;#38;amp#59;#96;#35;#59;#92;#34;'"]):::source
    "##);
    insta::assert_snapshot!(description.to_dot().lines().skip(4).take(4).collect::<Vec<_>>().join("\n"), @r##"
    topic0 [label="[a)|</title><script>alert(\"1\")</script>&amp;`#;\\\"']+", shape=parallelogram, fillcolor="#fdf6e3", color="#8a6d1b", style="filled,dotted"];
    subgraph cluster_sub0 {
      label="Sub-topology 0";
      color="#999999";
    "##);
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = of("FK join unnamed").to_html();
    assert_eq!(open_tags(&page), [""; 0]);
    let without_namespace = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "<script", "<link", "@import", "src="] {
        assert!(!without_namespace.contains(word), "{word}");
    }
}

#[test]
fn circles_and_long_chains_are_drawn() {
    // What a text may say, though no builder makes it: a node above itself.
    let circle = "Topologies:\n   Sub-topology: 0\n    Processor: a (stores: [s])\n      --> a, b\n      <-- b\n    \
                  Processor: b (stores: [s])\n      --> a\n      <-- a\n";
    let svg = circle.parse::<TopologyDescription>().unwrap().to_svg();
    assert!(svg.matches("ms-arrow\"").count() == 3 && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let mut chain = String::from("Topologies:\n   Sub-topology: 0\n    Source: n0 (topics: [t])\n      --> n1, n399\n");
    for node in 1..400 {
        let next = if node == 399 { "none".to_owned() } else { format!("n{}", node + 1) };
        chain += &format!("    Processor: n{node} (stores: [])\n      --> {next}\n      <-- n{}\n", node - 1);
    }
    let svg = chain.parse::<TopologyDescription>().unwrap().to_svg();
    assert_eq!(svg.matches("ms-arrow\"").count(), 401);
    assert!("Topologies:\n".parse::<TopologyDescription>().unwrap().to_svg().ends_with("</svg>\n"));
}
