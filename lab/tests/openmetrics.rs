//! The lab's OpenMetrics parser reads what is right, and refuses what is not.

use lab::openmetrics::Parser;

#[test]
fn the_parser_reads_texts_and_refuses_broken_ones() {
    let mut parser = Parser::start().unwrap();
    let text = "# HELP a_seconds A \\\"b\\\".\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                a_seconds_total{x=\"\\\"\\\\\\n\"} 2 # {run_id=\"7\"} 0.5 1.25\n\
                # TYPE g gauge\ng NaN\n# EOF\n";
    let families = parser.parse(text).unwrap();
    assert_eq!(families.len(), 2);
    let counter = &families[0];
    assert_eq!(
        [&*counter.name, &counter.help, &counter.kind, &counter.unit],
        ["a_seconds", "A \"b\".", "counter", "seconds"]
    );
    let sample = &counter.samples[0];
    assert_eq!((&*sample.name, sample.value, &*sample.labels["x"]), ("a_seconds_total", 2.0, "\"\\\n"));
    let exemplar = sample.exemplar.as_ref().unwrap();
    assert_eq!((&*exemplar.labels["run_id"], exemplar.value, exemplar.time), ("7", 0.5, Some(1.25)));
    assert!(families[1].samples[0].value.is_nan() && families[1].samples[0].exemplar.is_none());

    for broken in
        ["", "a 1\n", "a{x=\"1} 1\n# EOF\n", "# TYPE a counter\na_total NaN\n# EOF\n", "# UNIT a b\na 1\n# EOF\n"]
    {
        parser.parse(broken).unwrap_err();
    }
    assert_eq!(parser.parse("# EOF\n").unwrap(), [], "it goes on after a broken one");
}
