//! Metrics written by hand as text, for what no compiler would make of a guest's source.

/// A metric whose core module has these functions and other fields. `$describe` answers with [`IDENTITY`] unless the
/// fields have a function of that name, and `$evaluate` with no measurements.
///
/// The module has the memory of the component at hand, and of the host `$log` and `$drop_session`.
pub(crate) fn metric(fields: &str) -> Vec<u8> {
    Metric { fields, ..Metric::default() }.bytes()
}

/// What differs between handmade metrics.
pub(crate) struct Metric<'a> {
    /// Fields of the core module that has the component's code.
    pub(crate) fields: &'a str,
    /// What the component says that it is called.
    pub(crate) name: &'a str,
    /// Its version.
    pub(crate) version: &'a str,
    /// Its memory, in pages of 64 KiB.
    pub(crate) memory: &'a str,
    /// The interface that it exports.
    pub(crate) exported: &'a str,
    /// Further definitions of the component.
    pub(crate) definitions: &'a str,
}

impl Default for Metric<'_> {
    fn default() -> Self {
        Self {
            fields: "",
            name: "handmade",
            version: "1.0.0",
            memory: "16",
            exported: "espalier:policy/metric@1.0.0-rc.1",
            definitions: "",
        }
    }
}

/// Makes `$describe` point to the name, version and (empty) summary, which lie in the data.
const IDENTITY: &str = "i32.const 2048";

impl Metric<'_> {
    /// The component's file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    fn text(&self) -> String {
        let Self { fields, name, version, memory, exported, definitions } = self;
        let describe = default_function(fields, "$describe", IDENTITY);
        let evaluate = default_function(fields, "$evaluate", "i32.const 3072");
        let [name, version] = [name, version].map(|text| (text.len(), escaped(text.as_bytes())));
        let pointers = [1024, name.0, 1536, version.0, 0, 0];
        let pointers: Vec<u8> =
            pointers.iter().flat_map(|&word| u32::try_from(word).unwrap().to_le_bytes()).collect();
        let (name, version, pointers) = (name.1, version.1, escaped(&pointers));
        format!(
            r#"(component
  (import "espalier:kernels/telemetry@1.0.0-rc.1" (instance $telemetry
    (type $names (enum "debug" "info" "warning" "error"))
    (export "level" (type $level (eq $names)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "espalier:kernels/inference@1.0.0-rc.1" (instance $inference (export "session" (type (sub resource)))))
  (alias export $inference "session" (type $session))
  (core module $storage (memory (export "memory") {memory}))
  (core instance $storage (instantiate $storage))
  (core func $log (canon lower (func $telemetry "log") (memory (core memory $storage "memory"))))
  (core func $drop_session (canon resource.drop $session))
  (core module $code
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "drop-session" (func $drop_session (param i32)))
    (import "storage" "memory" (memory 0))
    (data (i32.const 1024) "{name}") (data (i32.const 1536) "{version}") (data (i32.const 2048) "{pointers}")
    {describe} {evaluate}
    (export "describe" (func $describe)) (export "evaluate" (func $evaluate))
    {fields})
  (core instance $code (instantiate $code
    (with "host" (instance (export "log" (func $log)) (export "drop-session" (func $drop_session))))
    (with "storage" (instance $storage))))
  (type $identity (record (field "name" string) (field "version" string) (field "summary" string)))
  (type $measurement (record (field "name" string) (field "value" f64) (field "standard-error" (option f64))))
  (func $describe (result $identity) (canon lift (core func $code "describe") (memory (core memory $storage "memory"))))
  (func $evaluate (result (result (list $measurement) (error string)))
    (canon lift (core func $code "evaluate") (memory (core memory $storage "memory"))))
  (component $interface
    (type $identity_record (record (field "name" string) (field "version" string) (field "summary" string)))
    (import "import-identity" (type $identity (eq $identity_record)))
    (type $measurement_record
      (record (field "name" string) (field "value" f64) (field "standard-error" (option f64))))
    (import "import-measurement" (type $measurement (eq $measurement_record)))
    (import "import-describe" (func $describe (result $identity)))
    (import "import-evaluate" (func $evaluate (result (result (list $measurement) (error string)))))
    (export $own_identity "identity" (type $identity))
    (export $own_measurement "measurement" (type $measurement))
    (export "describe" (func $describe) (func (result $own_identity)))
    (export "evaluate" (func $evaluate) (func (result (result (list $own_measurement) (error string))))))
  (instance $interface (instantiate $interface
    (with "import-identity" (type $identity)) (with "import-measurement" (type $measurement))
    (with "import-describe" (func $describe)) (with "import-evaluate" (func $evaluate))))
  (export "{exported}" (instance $interface))
  {definitions})"#
        )
    }
}

fn default_function(fields: &str, name: &str, body: &str) -> String {
    let own = fields.contains(&format!("(func {name} "));
    if own { String::new() } else { format!("(func {name} (result i32) {body})") }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
