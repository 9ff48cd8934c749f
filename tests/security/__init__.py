"""What an attacker would try, against the application and against a real server process."""
