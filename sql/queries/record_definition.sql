INSERT INTO vcc.definitions AS d (name, digest, objects) VALUES ($1, sha256(convert_to($2, 'UTF8')), '{}')
ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = excluded.applied_at
