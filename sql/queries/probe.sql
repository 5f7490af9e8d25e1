-- A made-up event of a project, which is undone: does the database take any?
SELECT result
  FROM vcc.apply_events(project => $1, ticket_id => '{-9223372036854775808}', action => '{add}', payload => '{"{}"}')
