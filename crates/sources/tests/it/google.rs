//! Google Cloud Storage, against fake-gcs-server, which knows no credentials.

use tunesmith_sources::{Bucket, Google, Service, Source, SourceError};

use crate::harness::{Place, ROWS, RealServer, many_rows};
use crate::stub::{Reply, Stub};

fn source(endpoint: &str, address: &str) -> Source {
    let Source::Bucket(bucket) = Source::parse(address).unwrap() else { panic!("{address}") };
    let google = Google { endpoint: endpoint.to_owned(), ..Google::default() };
    Source::Bucket(Bucket { service: Service::Google(google), ..bucket })
}

#[test]
fn objects_and_folders_arrive_and_interrupted_ones_are_gone_on_with() {
    let Some(server) = RealServer::start("google") else { return };
    let of = |address: &str| source(&server.fact("/endpoint"), address);
    assert_eq!(Place::new().tables(&of("gs://public/a/rows.csv"))[0].1, ROWS);
    assert_eq!(Place::new().tables(&of("gs://public/root.csv"))[0].1, ROWS);
    let two: Vec<String> =
        Place::new().tables(&of("gs://public/two")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(two, ["one more ü.csv", "second.csv"]);
    let listing = of("gs://public").list().unwrap();
    assert_eq!(
        (listing.folders, &*listing.objects[0].key),
        (vec!["a/".to_owned(), "two/".to_owned()], "root.csv")
    );
    assert!(Place::new().complaint(&of("gs://public/no.csv")).contains("nothing at gs://public/no.csv"));

    let big = of("gs://public/a/big.jsonl");
    let mut place = Place::new();
    place.cancel_after = 300_000;
    assert!(matches!(place.fetch(&big), Err(SourceError::Cancelled)));
    place.cancel_after = u64::MAX;
    place.bytes();
    assert_eq!(place.tables(&big)[0].1, many_rows());
    assert!(300_000 < place.bytes()[0].0, "it began anew");
}

#[test]
fn refusals_name_the_service_account() {
    let stub = Stub::start(|_| Reply::new("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"));
    let said = Place::new().complaint(&source(&stub.endpoint, "gs://private/rows.csv"));
    assert!(
        said.contains("gs://private/rows.csv refuses access: AccessDenied") && said.contains("not public"),
        "{said}"
    );
    assert!(stub.requests().iter().all(|request| request.header("authorization").is_empty()));
    let Source::Bucket(mut bucket) = source("", "gs://private/rows.csv") else { panic!() };
    bucket.service =
        Service::Google(Google { service_account: "{\"topsecret\": true".into(), ..Google::default() });
    let said = Place::new().complaint(&Source::Bucket(bucket));
    assert!(said.contains("service account"), "{said}");
}
