//! What a client wants `/metrics` in: the format by `Accept`, the coding by `Accept-Encoding`.
//!
//! Source: RFC 9110, sections 12.4.2 (weights), 12.5.1 and 12.5.3. A client that wants nothing there is gets what every
//! client understands, as Prometheus' own libraries do, and not a 406.

use hyper::header::{self, HeaderMap, HeaderName};

use crate::metrics::exposition::Format;

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// The value of `Content-Encoding`, if there is one.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// The formats that a client may ask for, by the media types that name them. Of two that it likes alike it gets the one that
/// says more; one that it named is better than one that its wildcard covers.
pub(super) fn format(headers: &HeaderMap, created: bool) -> Format {
    let rank = |range: &str| -> Option<(u8, Format)> {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next()?;
        let parameter = |name: &str| parameter(range, name);
        if is(media_type, "application/vnd.google.protobuf") {
            let proto = parameter("proto").is_some_and(|proto| proto == "io.prometheus.client.MetricFamily");
            let delimited = parameter("encoding").is_some_and(|encoding| is(encoding, "delimited"));
            (proto && delimited).then_some((3, Format::Protobuf))
        } else if is(media_type, "application/openmetrics-text") {
            let known = parameter("version").is_none_or(|version| version == "1.0.0");
            known.then_some((2, Format::OpenMetrics { created }))
        } else if is(media_type, "text/plain") {
            let known = parameter("version").is_none_or(|version| version == "0.0.4");
            known.then_some((1, Format::Text))
        } else {
            (is(media_type, "text/*") || is(media_type, "*/*")).then_some((0, Format::Text))
        }
    };
    best(headers, header::ACCEPT, rank).unwrap_or(Format::Text)
}

/// The coding that the client likes best; of two that it likes alike the one that costs less.
pub(super) fn coding(headers: &HeaderMap) -> Coding {
    let rank = |range: &str| -> Option<(u8, Coding)> {
        let name = range.split(';').next()?.trim();
        if is(name, "zstd") {
            Some((2, Coding::Zstd))
        } else if is(name, "gzip") || is(name, "x-gzip") {
            Some((1, Coding::Gzip))
        } else {
            is(name, "identity").then_some((0, Coding::Identity))
        }
    };
    best(headers, header::ACCEPT_ENCODING, rank).unwrap_or(Coding::Identity)
}

/// Of what the elements of a list header mean, that of the greatest weight, then of the greatest rank.
fn best<T>(headers: &HeaderMap, name: HeaderName, rank: impl Fn(&str) -> Option<(u8, T)>) -> Option<T> {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    let ranked = lists.flat_map(|list| list.split(',')).filter_map(|range| {
        let weight = weight(range);
        let (rank, meaning) = rank(range).filter(|_| weight > 0)?;
        Some(((weight, rank), meaning))
    });
    ranked.max_by_key(|(order, _)| *order).map(|(_, meaning)| meaning)
}

/// The weight of an element in thousandths: all of it if none is given, none if it is not a number from 0 to 1.
fn weight(range: &str) -> u16 {
    let Some(text) = parameter(range, "q") else { return 1000 };
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    let is_weight = digits.len() <= 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let thousandths = format!("{digits:0<3}").parse().unwrap_or(0);
    match whole {
        "0" if is_weight => thousandths,
        "1" if is_weight && thousandths == 0 => 1000,
        _ => 0,
    }
}

/// The value of a parameter, without quotes.
fn parameter<'r>(range: &'r str, name: &str) -> Option<&'r str> {
    let mut parameters = range.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(key, _)| is(key.trim(), name))?;
    let value = value.trim();
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

fn is(text: &str, known: &str) -> bool {
    text.eq_ignore_ascii_case(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Format = Format::OpenMetrics { created: false };

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[track_caller]
    fn formats(cases: &[(&[&str], Format)]) {
        for (accept, expected) in cases {
            assert_eq!(format(&headers(&header::ACCEPT, accept), false), *expected, "{accept:?}");
        }
    }

    #[test]
    fn prometheus_gets_the_richest_format_that_it_asks_for() {
        formats(&[
            // 2.42 without and with native histograms.
            (
                &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OPEN,
            ),
            (
                &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                   application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                Format::Protobuf,
            ),
            // 3.x without and with native histograms, and with text only.
            (
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1"],
                OPEN,
            ),
            (
                &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                   escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1"],
                Format::Protobuf,
            ),
            // 3.9.1 without and with native histograms, as it sent them.
            (
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                   application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                OPEN,
            ),
            (
                &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                   application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1"],
                Format::Protobuf,
            ),
            (
                &["text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"],
                Format::Text,
            ),
        ]);
    }

    #[test]
    fn everybody_else_gets_text() {
        formats(&[
            (&[], Format::Text),
            (&["*/*"], Format::Text),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Format::Text),
            (&["application/json"], Format::Text),
            (&["application/openmetrics-text;version=2.0.0"], Format::Text),
            (&["application/vnd.google.protobuf"], Format::Text),
            (&["application/openmetrics-text;q=0"], Format::Text),
            (&[""], Format::Text),
            (&[",;,q=,;;=;q=1"], Format::Text),
        ]);
    }

    #[test]
    fn weights_decide_then_what_says_more() {
        formats(&[
            (&["text/plain", "application/openmetrics-text"], OPEN),
            (&["application/openmetrics-text;q=0.4, text/plain;q=0.5"], Format::Text),
            (&["*/*, application/openmetrics-text; version=\"1.0.0\""], OPEN),
            (&["APPLICATION/OpenMetrics-Text; Version=1.0.0; Q=1.000, text/plain"], OPEN),
            (&["application/openmetrics-text;q=1.1, text/plain;q=0.1"], Format::Text),
            (&["application/openmetrics-text;q=nan"], Format::Text),
        ]);
    }

    #[test]
    fn codings_are_chosen_by_weight_then_by_cost() {
        for (accept, expected) in [
            ("gzip", Coding::Gzip),
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("deflate", Coding::Identity),
            ("gzip;q=0", Coding::Identity),
            ("zstd;q=0.1, gzip;q=0.5", Coding::Gzip),
            ("identity, gzip;q=0.5", Coding::Identity),
            ("*", Coding::Identity),
            ("X-GZIP", Coding::Gzip),
            ("", Coding::Identity),
        ] {
            assert_eq!(coding(&headers(&header::ACCEPT_ENCODING, &[accept])), expected, "{accept}");
        }
        assert_eq!(coding(&HeaderMap::new()), Coding::Identity);
    }

    #[test]
    fn nobody_gets_what_they_did_not_name() {
        let (seeds, special) = crate::corpus::each("negotiation", crate::http::fuzz::negotiation);
        assert!(seeds >= 6 && special > 1_000, "{seeds} seeds, {special} of all inputs asked for something");
    }
}
