"""What the user wants kept, cut or aligned: selectors, rules, files of rules, and what they mean on a Graph."""
