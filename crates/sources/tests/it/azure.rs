//! Azure Blob Storage, against Azurite, which checks signatures.

use tunesmith_sources::{Azure, Bucket, Service, Source, SourceError};

use crate::harness::{Place, ROWS, RealServer, many_rows};

fn source(azure: &Azure, address: &str) -> Source {
    let Source::Bucket(bucket) = Source::parse(address).unwrap() else { panic!("{address}") };
    Source::Bucket(Bucket { service: Service::Azure(azure.clone()), ..bucket })
}

#[test]
fn blobs_arrive_by_connection_string_key_and_signature() {
    let Some(azurite) = RealServer::start("azure") else { return };
    let by_string = Azure::from_connection_string(&azurite.fact("/connection").into()).unwrap();
    let by_key = Azure {
        account: azurite.fact("/account"),
        access_key: azurite.fact("/key").into(),
        endpoint: azurite.fact("/endpoint"),
        ..Azure::default()
    };
    assert_eq!(by_string, by_key);
    let by_signature =
        Azure { access_key: "".into(), sas_token: azurite.fact("/sas").into(), ..by_key.clone() };
    for azure in [&by_key, &by_signature] {
        let of = |address: &str| source(azure, address);
        assert_eq!(Place::new().tables(&of("az://private/a/rows.csv"))[0].1, ROWS);
        assert_eq!(Place::new().tables(&of("abfs://private/a/big.jsonl"))[0].1, many_rows());
        let two: Vec<String> =
            Place::new().tables(&of("az://private/two")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(two, ["one more ü.csv", "second.csv"]);
        let listing = of("az://private").list().unwrap();
        assert_eq!(
            (listing.folders, &*listing.objects[0].key),
            (vec!["a/".to_owned(), "two/".to_owned()], "root.csv")
        );
    }
    let public = Azure { access_key: "".into(), ..by_key.clone() };
    assert_eq!(Place::new().tables(&source(&public, "az://public/a/rows.csv"))[0].1, ROWS);

    let big = source(&by_key, "az://private/a/big.jsonl");
    let mut place = Place::new();
    place.cancel_after = 300_000;
    assert!(matches!(place.fetch(&big), Err(SourceError::Cancelled)));
    place.cancel_after = u64::MAX;
    place.bytes();
    assert_eq!(place.tables(&big)[0].1, many_rows());
    assert!(300_000 < place.bytes()[0].0, "it began anew");
}

#[test]
fn refusals_say_which_credentials_and_never_show_them() {
    let Some(azurite) = RealServer::start("azure") else { return };
    let known = Azure::from_connection_string(&azurite.fact("/connection").into()).unwrap();
    let wrong = Azure { access_key: "dG9wc2VjcmV0dG9wc2VjcmV0".into(), ..known.clone() };
    let nobody = Azure { access_key: "".into(), ..known.clone() };
    let signature = azurite.fact("/sas").replace("sp=rl", "sp=rwl");
    let forged = Azure { sas_token: signature.clone().into(), ..nobody.clone() };
    let place = Place::new();
    for (azure, expected) in
        [(&wrong, "key of the account"), (&nobody, "not public"), (&forged, "shared access signature")]
    {
        let said = place.complaint(&source(azure, "az://private/a/rows.csv"));
        assert!(said.contains("az://private/a/rows.csv") && said.contains(expected), "{said}");
        assert!(!said.contains("dG9wc2VjcmV0") && !said.contains("sig="), "{said}");
    }
    assert!(
        place
            .complaint(&source(&known, "az://private/a/no.csv"))
            .contains("nothing at az://private/a/no.csv")
    );
    assert!(place.complaint(&source(&known, "az://nowhere/a/no.csv")).contains("az://nowhere/a/no.csv"));
    assert!(
        place
            .complaint(&source(&Azure::default(), "az://private/a.csv"))
            .contains("name of the storage account")
    );
}
