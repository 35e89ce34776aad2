//! S3, against moto, which checks signatures and policies; and against a stub where a region is wrong.

use tunesmith_sources::{Bucket, S3, Service, Source, SourceError};

use crate::harness::{Place, ROWS, RealServer, archive, many_rows, said};
use crate::stub::{Reply, Stub};

fn source(endpoint: &str, address: &str, (id, secret): (&str, &str)) -> Source {
    let Source::Bucket(bucket) = Source::parse(address).unwrap() else { panic!("{address}") };
    let s3 = S3 {
        access_key_id: id.into(),
        secret_access_key: secret.into(),
        endpoint: endpoint.to_owned(),
        ..S3::default()
    };
    Source::Bucket(Bucket { service: Service::S3(s3), ..bucket })
}

#[test]
fn objects_and_folders_arrive_with_a_key_that_may_read() {
    let Some(moto) = RealServer::start("s3") else { return };
    let key = (&*moto.fact("/reader/id"), &*moto.fact("/reader/secret"));
    let of = |address: &str| source(&moto.fact("/endpoint"), address, key);
    let place = Place::new();
    assert_eq!(place.tables(&of("s3://private/a/rows.csv")), [("rows.csv".to_owned(), ROWS.to_owned())]);
    assert_eq!(Place::new().tables(&of("s3://private/root.csv")).len(), 1);
    assert_eq!(Place::new().tables(&of("s3://private/a/big.jsonl"))[0].1, many_rows());
    let names = |address: &str| -> Vec<String> {
        Place::new().tables(&of(address)).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names("s3://private/a/tables.zip"), ["train.csv", "test.csv"]);
    assert_eq!(names("s3://private/two/"), ["one more ü.csv", "second.csv"]);
    assert_eq!(names("s3://private/two"), ["one more ü.csv", "second.csv"]);
    assert_eq!(names("s3://private"), ["root.csv"]);
    // The listing has more than one page.
    assert_eq!(names("s3://private/many/").len(), 10);

    let listing = of("s3://private").list().unwrap();
    assert_eq!(listing.folders, ["a/", "many/", "two/"]);
    assert_eq!(listing.objects.iter().map(|object| &*object.key).collect::<Vec<_>>(), ["root.csv"]);
    assert_eq!(listing.objects[0].n_bytes, ROWS.len() as u64);
}

#[test]
fn an_interrupted_object_is_gone_on_with() {
    let Some(moto) = RealServer::start("s3") else { return };
    let key = (&*moto.fact("/reader/id"), &*moto.fact("/reader/secret"));
    let big = source(&moto.fact("/endpoint"), "s3://private/a/big.jsonl", key);
    let mut place = Place::new();
    place.cancel_after = 300_000;
    assert!(matches!(place.fetch(&big), Err(SourceError::Cancelled)));
    place.cancel_after = u64::MAX;
    place.bytes();
    assert_eq!(place.tables(&big)[0].1, many_rows());
    assert!(300_000 < place.bytes()[0].0, "it began anew");
}

#[test]
fn public_buckets_need_no_key() {
    let Some(moto) = RealServer::start("s3") else { return };
    let of = |address: &str| source(&moto.fact("/endpoint"), address, ("", ""));
    assert_eq!(Place::new().tables(&of("s3://public/a/rows.csv"))[0].1, ROWS);
}

#[test]
fn refusals_say_which_credentials_and_never_show_them() {
    let Some(moto) = RealServer::start("s3") else { return };
    let (id, secret) = (moto.fact("/reader/id"), moto.fact("/reader/secret"));
    let place = Place::new();
    let complaint = |address: &str, key: (&str, &str)| {
        let said = place.complaint(&source(&moto.fact("/endpoint"), address, key));
        assert!(!said.contains(&secret) && !said.contains("topsecret"), "{said}");
        said
    };
    let stranger = (&*moto.fact("/stranger/id"), &*moto.fact("/stranger/secret"));
    for (key, expected) in [
        ((&*id, "topsecret"), "secret key"),
        (("AKIATOPSECRETNONE", "topsecret"), "access key"),
        (stranger, "may not read"),
        (("", ""), "not public"),
    ] {
        let said = complaint("s3://private/a/rows.csv", key);
        assert!(said.contains("s3://private/a/rows.csv refuses access") && said.contains(expected), "{said}");
    }
    let key = (&*id, &*secret);
    assert!(complaint("s3://private/a/nothing.csv", key).contains("nothing at s3://private/a/nothing.csv"));
    assert!(complaint("s3://nowhere/a/rows.csv", key).contains("s3://nowhere/a/rows.csv"));
    assert!(complaint("s3://private/two/notes.pdf", key).contains("notes.pdf is neither"));
    assert!(complaint("s3://Bad Bucket/x.csv", key).contains("no name of a bucket"));
}

#[test]
fn a_bucket_elsewhere_is_told_with_its_region() {
    for status in ["301 Moved Permanently", "400 Bad Request"] {
        let stub = Stub::start(move |_| {
            Reply::new(status, "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>")
                .with("x-amz-bucket-region", "eu-central-1")
        });
        let error = Place::new()
            .fetch(&source(&stub.endpoint, "s3://bucket/rows.csv", ("AKIA", "topsecret")))
            .unwrap_err();
        let said = said(&error);
        assert!(said.contains("eu-central-1") && said.contains("us-east-1"), "{said}");
    }
}

#[test]
fn an_archive_on_the_way_is_checked_as_any_other() {
    let hostile = archive(&[("../out.csv", ROWS.as_bytes())]);
    let stub = Stub::start(move |request| {
        Reply::file(request, &hostile, "\"zip\"").with("Last-Modified", "Thu, 26 Nov 2026 06:00:00 GMT")
    });
    let said = Place::new().complaint(&source(&stub.endpoint, "s3://bucket/tables.zip", ("", "")));
    assert!(said.contains("outside itself"), "{said}");
}
