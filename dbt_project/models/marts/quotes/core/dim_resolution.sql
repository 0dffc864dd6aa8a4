select source, resolution_minutes, period_s, offset_s, lateness_s, top_ranks
from {{ ref('stg_resolutions') }}
order by source, resolution_minutes
