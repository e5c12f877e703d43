//! `make demo-night`: the same story, and who is told of it.

use std::path::Path;

use crate::support::program;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_starves_a_member_and_the_alert_names_both() {
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let mut lines = Vec::new();
    let mut say = |line: &str| {
        println!("{line}");
        lines.push(line.to_owned());
        Ok(())
    };
    lab::night::run(program(), &alerts, &mut say).await.unwrap();
    let at = |text: &str| {
        let found = lines.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text} in\n{}", lines.join("\n")))
    };
    let began = &lines[at("a backup begins at ")];
    let member = began.split("begins at ").nth(1).unwrap().split(',').next().unwrap();
    // In this order, and about this member.
    let story = [
        "all is quiet",
        "a backup begins",
        "midwatch knows",
        "is pending",
        "fires",
        "tells `databases`",
        "has ended",
        "is over",
    ];
    let places: Vec<_> = story.iter().map(|text| at(text)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let summary = &lines[at("summary: ")];
    assert!(summary.contains(member) && summary.contains("nightly"), "{summary}");
}
