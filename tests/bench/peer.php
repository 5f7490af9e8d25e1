<?php
// The peer that a PHP developer would write with care: a persistent connection, one statement for the ticket and its
// journal row, which PostgreSQL commits by itself, and JSON decoded once. It has fewer promises to keep than ticketd:
// no order of events, no repeats, no memory of deletions, and nothing set aside.
//
// CLIENT=pdo: PDO, whose prepared statement ends with the request, so it is sent in one round trip with its values,
// which measured faster than three to prepare, execute and forget it. CLIENT=pgsql: the older extension, which finds
// the statement again that an earlier request prepared in this connection: less usual, faster.

const COLUMNS = [
    'projectId' => 'project_id', 'ticketId' => 'ticket_id', 'entityId' => 'entity_id', 'contactId' => 'contact_id',
    'createdUserId' => 'created_user_id', 'userId' => 'user_id', 'ticketNo' => 'ticket_no', 'title' => 'title',
    'type' => 'type', 'description' => 'description', 'cc' => 'cc', 'status' => 'status', 'subStatus' => 'sub_status',
    'createdUserName' => 'created_user_name', 'projectName' => 'project_name', 'agentName' => 'agent_name',
    'agentUserName' => 'agent_user_name', 'firstOpenTime' => 'first_open_time', 'lastOpenTime' => 'last_open_time',
    'softDeadline' => 'soft_deadline',
];

const JOURNAL = 'INSERT INTO vcc.ticket_events VALUES ($1, $2, $3, $4, now(), $5, $6)';

function answer(int $status, array $content): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($content);
    exit;
}

/** @return array{string, string}[] name and text of the two statements */
function statements(): array
{
    $set = $places = [];
    foreach (array_values(COLUMNS) as $i => $column) {
        $places[] = '$' . ($i < 2 ? $i + 2 : $i + 5);
        $set[] = "$column = coalesce(excluded.$column, t.$column)";
    }
    $columns = implode(', ', COLUMNS);
    return [
        'upsert' => 'WITH journal AS (' . JOURNAL . ') INSERT INTO vcc.tickets AS t '
            . "($columns, first_event_at, last_event_at) VALUES (" . implode(', ', $places) . ', now(), now()) '
            . 'ON CONFLICT (project_id, ticket_id) DO UPDATE SET '
            . implode(', ', array_slice($set, 2)) . ', last_event_at = excluded.last_event_at',
        'delete' => 'WITH journal AS (' . JOURNAL . ') '
            . 'DELETE FROM vcc.tickets WHERE project_id = $2 AND ticket_id = $3',
    ];
}

/** One event through PDO. The SQLSTATE of what went wrong, or null. */
function by_pdo(string $name, array $values): ?string
{
    try {
        $connection = new PDO('pgsql:' . $_SERVER['DATABASE'], null, null, [
            PDO::ATTR_PERSISTENT => true, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
            PDO::ATTR_EMULATE_PREPARES => false, PDO::PGSQL_ATTR_DISABLE_PREPARES => true,
        ]);
        $named = [];
        foreach ($values as $i => $value) {
            $named['p' . ($i + 1)] = $value;
        }
        $connection->prepare(preg_replace('/\$(\d+)/', ':p$1', statements()[$name]))->execute($named);
    } catch (PDOException $error) {
        return (string) $error->getCode();
    }
    return null;
}

/** One event through pgsql, likewise. */
function by_pgsql(string $name, array $values): ?string
{
    $connection = pg_pconnect($_SERVER['DATABASE']);
    if (!$connection) {
        return '08000';
    }
    $state = execute($connection, $name, $values);
    if ($state === '26000') { // not prepared yet
        pg_prepare($connection, $name, statements()[$name]);
        $state = execute($connection, $name, $values);
    }
    return $state;
}

function execute(PgSql\Connection $connection, string $name, array $values): ?string
{
    if (!pg_send_execute($connection, $name, $values)) {
        return '08000';
    }
    $state = null;
    while ($result = pg_get_result($connection)) {
        $state = $state ?? pg_result_error_field($result, PGSQL_DIAG_SQLSTATE) ?: null;
    }
    return $state;
}

$body = file_get_contents('php://input');
$event = json_decode($body, true);
$ticket = $event['ticket'] ?? null;
$action = $event['action'] ?? null;
$results = ['add' => 'updated', 'update' => 'updated', 'delete' => 'deleted'];
if (!is_array($ticket) || !isset($ticket['projectId'], $ticket['ticketId'], $results[$action])) {
    answer(422, ['detail' => 'not an event']);
}

// A UUID that ascends with time; PostgreSQL takes it without hyphens.
$id = sprintf('%012x', (int) (microtime(true) * 1000)) . '7' . substr(bin2hex(random_bytes(10)), 1);
$name = $action === 'delete' ? 'delete' : 'upsert';
$values = [$id, $ticket['projectId'], $ticket['ticketId'], $action, $results[$action], $body];
if ($name === 'upsert') {
    foreach (array_slice(array_keys(COLUMNS), 2) as $attribute) {
        $values[] = $ticket[$attribute] ?? null;
    }
}

$state = $_SERVER['CLIENT'] === 'pgsql' ? by_pgsql($name, $values) : by_pdo($name, $values);
if ($state !== null) {
    answer(in_array(substr($state, 0, 2), ['22', '23'], true) ? 422 : 503, ['detail' => "SQLSTATE $state"]);
}
answer(200, ['result' => $values[4], 'event' => $id]);
