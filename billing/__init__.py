"""What tenants pay for, as Stripe says: it sets their tier."""
