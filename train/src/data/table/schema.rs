//! The columns that a model was trained on, stored with it.

use serde::{Deserialize, Serialize};

/// The values of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Numbers.
    Number,
    /// One of these texts, stored as an index: in the order of numbers if all of them are numbers, else of bytes.
    Categories(Vec<String>),
}

impl Kind {
    /// The values that stand for it: 1 for a number, one for each category.
    pub fn width(&self) -> usize {
        match self {
            Kind::Number => 1,
            Kind::Categories(names) => names.len(),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in the header; without a header its number.
    pub name: String,
    /// Its number in the file that was trained on, from 0.
    pub number: usize,
    /// Its values.
    pub kind: Kind,
}

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Whether the file had a header, by whose names columns are found.
    pub header: bool,
    /// The byte between its cells.
    pub delimiter: u8,
    /// Columns of the file, used or not.
    pub width: usize,
    /// The features' columns, in the order of the file.
    pub columns: Vec<Column>,
    /// The target; its categories are classes.
    pub target: Column,
}

impl Schema {
    /// Features: a number is one, and each category is one.
    pub fn features(&self) -> usize {
        self.columns.iter().map(|column| column.kind.width()).sum()
    }

    /// Outputs of a model: 1, or the number of classes.
    pub fn outputs(&self) -> usize {
        self.target.kind.width()
    }

    /// The names of the classes, unless the target is a number.
    pub fn classes(&self) -> Option<&[String]> {
        match &self.target.kind {
            Kind::Number => None,
            Kind::Categories(names) => Some(names),
        }
    }

    /// The name of each feature: of its column, and `column=category`.
    pub fn feature_names(&self) -> Vec<String> {
        let of = |column: &Column| match &column.kind {
            Kind::Number => vec![column.name.clone()],
            Kind::Categories(names) => names.iter().map(|name| format!("{}={name}", column.name)).collect(),
        };
        self.columns.iter().flat_map(of).collect()
    }

    /// Whether each feature is a number, which is scaled, and not a category's 0 or 1.
    pub(super) fn scaled(&self) -> Vec<bool> {
        let of = |column: &Column| vec![column.kind == Kind::Number; column.kind.width()];
        self.columns.iter().flat_map(of).collect()
    }

    /// A row's values, one for each column, as features: an index becomes 0s and a 1 at its place.
    ///
    /// # Panics
    /// If there are not as many values as columns, or not as many places as features.
    #[track_caller]
    pub fn expand(&self, values: &[f64], features: &mut [f64]) {
        let (columns, want) = (self.columns.len(), self.features());
        assert_eq!(values.len(), columns, "a row of {} values: must be {columns}", values.len());
        assert_eq!(features.len(), want, "places for {} features: must be {want}", features.len());
        let mut at = 0;
        for (column, &value) in self.columns.iter().zip(values) {
            let places = &mut features[at..at + column.kind.width()];
            at += places.len();
            match &column.kind {
                Kind::Number => places[0] = value,
                Kind::Categories(_) => {
                    places.fill(0.0);
                    places[value as usize] = 1.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), number: 0, kind }
    }

    #[test]
    fn a_category_is_a_feature() {
        let colours = Kind::Categories(vec!["blue".into(), "red".into()]);
        let schema = Schema {
            header: true,
            delimiter: b',',
            width: 4,
            columns: vec![
                column("a", Kind::Number),
                column("colour", colours.clone()),
                column("b", Kind::Number),
            ],
            target: column("y", colours),
        };
        assert_eq!(schema.feature_names(), ["a", "colour=blue", "colour=red", "b"]);
        assert_eq!((schema.features(), schema.outputs(), schema.classes().unwrap().len()), (4, 2, 2));
        assert_eq!(schema.scaled(), [true, false, false, true]);
        let mut out = [9.0; 4];
        schema.expand(&[7.0, 1.0, 8.0], &mut out);
        assert_eq!(out, [7.0, 0.0, 1.0, 8.0]);
        let stored = serde_json::to_string(&schema).unwrap();
        assert!(
            stored.contains(r#""kind":{"categories":["blue","red"]}"#)
                && stored.contains(r#""kind":"number""#)
        );
        assert_eq!(serde_json::from_str::<Schema>(&stored).unwrap(), schema);
    }
}
