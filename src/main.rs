//! The operator's program.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", whatsapp_operator::api::crd_yaml()?);
    Ok(())
}
