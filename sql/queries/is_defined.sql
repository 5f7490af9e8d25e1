SELECT FROM vcc.definitions WHERE name = $1 AND digest = sha256(convert_to($2, 'UTF8'))
