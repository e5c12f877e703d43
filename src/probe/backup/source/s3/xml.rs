//! The answers of the S3 API that are read: a page of a listing, and an error.

use chrono::DateTime;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

/// Servers that give more than the thousand objects that were asked for are believed up to here.
const MOST: usize = 10_000;
/// The longest text of an element, in bytes: a key has 1024, three times as many when it is escaped.
const LONGEST: usize = 4096;
/// How deep elements may be within each other.
const DEEPEST: usize = 16;

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size, in bytes.
    pub size: u64,
    /// When it was written, in unix seconds.
    pub modified: f64,
}

/// A page of a listing (the answer to `ListObjectsV2`).
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// In the order in which they were given.
    pub objects: Vec<Object>,
    /// Whether there are more.
    pub is_truncated: bool,
    /// What to ask for the next page with.
    pub token: Option<String>,
}

/// What a server says of a request that it did not grant.
#[derive(Debug, Default, PartialEq)]
pub struct Refusal {
    /// The kind of error, such as `NoSuchBucket`.
    pub code: String,
    /// In words.
    pub message: String,
    /// Where the bucket is.
    pub region: Option<String>,
}

/// The elements that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Listing,
    Contents,
    Key,
    LastModified,
    Size,
    IsTruncated,
    Token,
    Encoding,
    Error,
    Code,
    Message,
    Region,
    Other,
}

impl Tag {
    fn of(start: &BytesStart<'_>) -> Self {
        match start.local_name().as_ref() {
            "ListBucketResult" => Self::Listing,
            "Contents" => Self::Contents,
            "Key" => Self::Key,
            "LastModified" => Self::LastModified,
            "Size" => Self::Size,
            "IsTruncated" => Self::IsTruncated,
            "NextContinuationToken" => Self::Token,
            "EncodingType" => Self::Encoding,
            "Error" => Self::Error,
            "Code" => Self::Code,
            "Message" => Self::Message,
            "Region" => Self::Region,
            _ => Self::Other,
        }
    }
}

/// Reads a page.
///
/// # Errors
/// What is wrong with it, without any of its text.
pub fn page(bytes: &[u8]) -> Result<Page, &'static str> {
    let mut page = Page::default();
    let (mut key, mut size, mut modified) = (None, None, None);
    let mut is_escaped = false;
    let mut is_listing = false;
    read(bytes, |path, text| {
        match path {
            [Tag::Listing] => is_listing = true,
            [Tag::Listing, Tag::IsTruncated] => page.is_truncated = text == "true",
            [Tag::Listing, Tag::Token] => page.token = Some(text.to_owned()).filter(|token| !token.is_empty()),
            [Tag::Listing, Tag::Encoding] => is_escaped = text == "url",
            [Tag::Listing, Tag::Contents, Tag::Key] => key = Some(text.to_owned()),
            [Tag::Listing, Tag::Contents, Tag::Size] => {
                size = Some(text.parse().map_err(|_| "the size of an object is no number")?);
            }
            [Tag::Listing, Tag::Contents, Tag::LastModified] => {
                let time = DateTime::parse_from_rfc3339(text).map_err(|_| "the time of an object is none")?;
                modified = Some(time.timestamp_micros() as f64 / 1e6);
            }
            [Tag::Listing, Tag::Contents] => {
                let (Some(key), Some(modified)) = (key.take(), modified.take()) else {
                    return Err("an object has no key or no time");
                };
                page.objects.push(Object { key, size: size.take().unwrap_or(0), modified });
                if page.objects.len() > MOST {
                    return Err("a page has more than 10000 objects");
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if !is_listing {
        return Err("it is no listing of a bucket");
    }
    // Where it says so may come after the keys.
    if is_escaped {
        for object in &mut page.objects {
            object.key = unescape(&object.key);
        }
    }
    Ok(page)
}

/// Reads an error. What is not there, or cannot be read, is empty.
pub fn refusal(bytes: &[u8]) -> Refusal {
    let mut refusal = Refusal::default();
    // An error that is cut off has still said its code.
    let _ = read(bytes, |path, text| {
        match path {
            [Tag::Error, Tag::Code] => text.clone_into(&mut refusal.code),
            [Tag::Error, Tag::Message] => text.clone_into(&mut refusal.message),
            [Tag::Error, Tag::Region] => refusal.region = Some(text.to_owned()),
            _ => {}
        }
        Ok(())
    });
    refusal
}

/// Tells the end of each element, with its path and its text.
fn read(bytes: &[u8], mut ended: impl FnMut(&[Tag], &str) -> Result<(), &'static str>) -> Result<(), &'static str> {
    let mut reader = Reader::from_str(std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?);
    reader.config_mut().expand_empty_elements = true;
    let mut path = Vec::with_capacity(DEEPEST);
    let mut text = String::new();
    let mut roots = 0;
    loop {
        match reader.read_event().map_err(|_| "it is not XML, or was cut off")? {
            Event::Start(start) => {
                roots += usize::from(path.is_empty());
                if roots > 1 || path.len() == DEEPEST {
                    return Err("its elements are too many or too deep");
                }
                path.push(Tag::of(&start));
                text.clear();
            }
            Event::Text(part) => text.push_str(&part),
            Event::CData(part) => text.push_str(&part),
            Event::GeneralRef(entity) => match entity.resolve_char_ref() {
                Ok(Some(char)) => text.push(char),
                Ok(None) => text.push_str(resolve_predefined_entity(&entity).ok_or("it has an unknown entity")?),
                Err(_) => return Err("it has a bad character reference"),
            },
            Event::End(_) => {
                ended(&path, &text)?;
                path.pop();
                text.clear();
            }
            Event::DocType(_) => return Err("it has a document type"),
            Event::Eof if path.is_empty() && roots == 1 => return Ok(()),
            Event::Eof => return Err("it is not XML, or was cut off"),
            Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
        // What lies between elements has no end that it could be told at.
        if path.is_empty() {
            text.clear();
        } else if text.len() > LONGEST {
            return Err("an element has more text than any should");
        }
    }
}

/// A key as `encoding-type=url` writes it: as in a form.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0) as u8;
                bytes.push(digit(high) << 4 | digit(low));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix/>
        <Contents><Key>a+b%2Fc%C3%A4</Key><LastModified>2026-11-21T19:47:35.500Z</LastModified><ETag>&#34;x&#34;</ETag>
        <Size>3</Size><Owner><ID>x</ID></Owner></Contents>
        <Contents><LastModified>2026-11-21T20:47:35+01:00</LastModified><Key>d&amp;e</Key></Contents>
        <IsTruncated>true</IsTruncated><NextContinuationToken>t&lt;</NextContinuationToken><EncodingType>url</EncodingType>
        <CommonPrefixes><Prefix>p</Prefix></CommonPrefixes></ListBucketResult>"#;

    #[test]
    fn a_page_is_read() {
        let page = page(PAGE.as_bytes()).unwrap();
        assert!(page.is_truncated);
        assert_eq!(page.token.as_deref(), Some("t<"));
        let object = |key: &str, size, modified| Object { key: key.to_owned(), size, modified };
        assert_eq!(page.objects, [object("a b/cä", 3, 1_795_290_455.5), object("d&e", 0, 1_795_290_455.0)]);
    }

    #[test]
    fn keys_are_taken_as_they_are_unless_they_are_escaped() {
        let plain = PAGE.replace("<EncodingType>url</EncodingType>", "");
        assert_eq!(page(plain.as_bytes()).unwrap().objects[0].key, "a+b%2Fc%C3%A4");
        assert_eq!(unescape("100%%2"), "100%%2");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let many = format!(
            "<ListBucketResult>{}</ListBucketResult>",
            "<Contents><Key>k</Key><LastModified>2026-11-21T20:47:35Z</LastModified></Contents>".repeat(MOST + 1)
        );
        let long = format!("<ListBucketResult><Name>{}</Name></ListBucketResult>", "x".repeat(LONGEST + 1));
        let deep = "<a>".repeat(DEEPEST + 1);
        let cut = &PAGE[..PAGE.len() - 20];
        for (bytes, problem) in [
            ("", "cut off"),
            ("{}", "cut off"),
            (cut, "cut off"),
            ("<html><body/></html>", "no listing"),
            ("<ListBucketResult/><ListBucketResult/>", "too many"),
            (&deep, "too deep"),
            (&long, "more text"),
            (&many, "10000"),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult/>", "document type"),
            ("<ListBucketResult><Name>&b;</Name></ListBucketResult>", "unknown entity"),
            ("<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>", "no key or no time"),
            ("<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>", "no number"),
            ("<ListBucketResult><Contents><LastModified>x</LastModified></Contents></ListBucketResult>", "time"),
        ] {
            let found = page(bytes.as_bytes()).unwrap_err();
            assert!(found.contains(problem), "{bytes:.60}: {found}");
        }
    }

    #[test]
    fn an_error_is_read_as_far_as_it_goes() {
        let text = "<Error><Code>PermanentRedirect</Code><Message>Else&#119;here</Message><Region>eu-north-1</Region>";
        let refusal = refusal(text.as_bytes());
        assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("PermanentRedirect", "Elsewhere"));
        assert_eq!(refusal.region.as_deref(), Some("eu-north-1"));
        assert_eq!(super::refusal(b"nginx"), Refusal::default());
    }
}
