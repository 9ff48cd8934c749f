"""Face identity service: enroll people, recognize faces by nearest-neighbour SQL."""
