//! Which type, subnet and market is tried after which.

use std::collections::BTreeSet;

use dsimg_template::template::aws::Spot;

use crate::place::Place;

/// One way to start the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) instance_type: String,
    pub(crate) place: Place,
    /// Spot capacity, else on demand.
    pub(crate) is_spot: bool,
}

impl Attempt {
    /// `t3.large in eu-west-1b, spot`
    pub(crate) fn describe(&self) -> String {
        let market = if self.is_spot { "spot" } else { "on demand" };
        format!("{} in {}, {market}", self.instance_type, self.place.zone)
    }
}

/// In the order in which they are tried: all of spot before what costs more, the template's first type in all places
/// before the next. `offers` are the types that zones have at all; types in no zone are left out.
pub(crate) fn attempts(
    types: &[String],
    places: &[Place],
    offers: &BTreeSet<(String, String)>,
    spot: Option<&Spot>,
) -> Vec<Attempt> {
    let markets: &[bool] = match spot {
        None => &[false],
        Some(Spot { on_demand_fallback: true, .. }) => &[true, false],
        Some(_) => &[true],
    };
    let mut attempts = Vec::new();
    for &is_spot in markets {
        for instance_type in types {
            for place in places.iter().filter(|place| offers.contains(&(instance_type.clone(), place.zone.clone()))) {
                attempts.push(Attempt { instance_type: instance_type.clone(), place: place.clone(), is_spot });
            }
        }
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(subnet: &str, zone: &str) -> Place {
        Place { subnet: subnet.to_owned(), zone: zone.to_owned(), ..Place::default() }
    }

    fn tried(spot: Option<Spot>, offers: &[(&str, &str)]) -> Vec<String> {
        let offers = offers.iter().map(|(kind, zone)| ((*kind).to_owned(), (*zone).to_owned())).collect();
        let types = ["t3.large".to_owned(), "m5.large".to_owned()];
        let found = attempts(&types, &[place("subnet-1", "b"), place("subnet-2", "a")], &offers, spot.as_ref());
        found.iter().map(Attempt::describe).collect()
    }

    const ALL: [(&str, &str); 4] = [("t3.large", "a"), ("t3.large", "b"), ("m5.large", "a"), ("m5.large", "b")];

    #[test]
    fn spot_comes_first_then_types_then_places() {
        let spot = Spot { max_price: None, on_demand_fallback: true };
        assert_eq!(
            tried(Some(spot), &ALL),
            [
                "t3.large in b, spot",
                "t3.large in a, spot",
                "m5.large in b, spot",
                "m5.large in a, spot",
                "t3.large in b, on demand",
                "t3.large in a, on demand",
                "m5.large in b, on demand",
                "m5.large in a, on demand",
            ]
        );
    }

    #[test]
    fn without_fallback_nothing_is_paid_in_full() {
        let spot = Spot { max_price: None, on_demand_fallback: false };
        assert!(tried(Some(spot), &ALL).iter().all(|attempt| attempt.ends_with(", spot")));
    }

    #[test]
    fn zones_without_the_type_are_left_out() {
        let offers = [("t3.large", "a"), ("m5.large", "a"), ("m5.large", "b")];
        assert_eq!(tried(None, &offers)[..2], ["t3.large in a, on demand", "m5.large in b, on demand"]);
    }
}
