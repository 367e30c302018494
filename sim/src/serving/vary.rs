//! The same service but for one thing. What was prepared for its routing is shared, not made again.

use moecast_profiles::calibration::Factors;
use moecast_traces::requests::Load;

use super::service::{Limits, Service, check_requests};
use crate::error::{Error, Result};

impl Service {
    /// The same service under another load.
    ///
    /// # Errors
    /// [`Error::Scenario`] names a request that cannot be served.
    pub fn under(&self, load: Load) -> Result<Self> {
        check_requests(&self.pools, &load, self.block_tokens)?;
        Ok(Self { load, ..self.clone() })
    }

    /// The same service under other limits, and another load.
    ///
    /// # Errors
    /// [`Error::Scenario`] names a limit of 0 or a request that cannot be served.
    pub fn limited(&self, limits: Limits, load: Load) -> Result<Self> {
        let mut service = self.clone();
        for pool in &mut service.pools {
            pool.limits = pool.limits.replaced(limits)?;
        }
        service.under(load)
    }

    /// The same service with other factors.
    #[must_use]
    pub fn with_factors(&self, factors: Factors) -> Self {
        Self { factors, ..self.clone() }
    }

    /// The same service with so many replicas in every pool.
    ///
    /// # Errors
    /// [`Error::Scenario`] when there is not one number for every pool, all above 0, or a replica
    /// that a fault names is gone.
    pub fn with_replicas(&self, replicas: &[u16]) -> Result<Self> {
        if replicas.len() != self.pools.len() || replicas.contains(&0) {
            let expected = format!("{} numbers above 0, one for every pool", self.pools.len());
            return Err(Error::scenario("replicas", format!("{replicas:?}"), expected));
        }
        for (number, fault) in self.faults.iter().enumerate() {
            let count = replicas[fault.pool];
            if fault.replica >= count {
                let expected = format!("below the {count} replicas of the pool");
                let place = format!("faults[{number}].replica");
                return Err(Error::scenario(place, fault.replica.to_string(), expected));
            }
        }
        let mut service = self.clone();
        service.pools.iter_mut().zip(replicas).for_each(|(pool, &count)| pool.replicas = count);
        Ok(service)
    }
}
